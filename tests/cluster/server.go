package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// shared counts the handles on one server.
type shared struct {
	mu      sync.Mutex
	running *server
	handles int
}

// acquire returns the running server, or starts one. Callers wait for a start
// that is under way.
func (s *shared) acquire() (*server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		started, err := startServer()
		if err != nil {
			return nil, err
		}
		s.running = started
	}
	s.handles++
	return s.running, nil
}

// release gives one handle back and stops the server with the last one.
func (s *shared) release(of *server) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handles--; s.handles > 0 {
		return nil
	}
	s.running = nil
	return of.stop()
}

// server is a running `ceph-cluster.sh run`. The script ends the cluster when
// its standard input does, so it also ends it when this process is killed.
type server struct {
	conf     string
	lifeline io.Closer
	script   *exec.Cmd
}

func startServer(options ...string) (*server, error) {
	script, err := scriptPath()
	if err != nil {
		return nil, err
	}
	// The script removes it at the end.
	dir, err := os.MkdirTemp("", "rbdbackupfs-ceph-")
	if err != nil {
		return nil, err
	}
	s := &server{script: exec.Command(script, append([]string{"run", dir}, options...)...)}
	s.script.Env = environ()
	// A session of its own: Ctrl-C reaches the test, and the script sees it end.
	s.script.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return s, s.run()
}

// run starts the script and waits until the cluster is ready.
func (s *server) run() error {
	stdin, err := s.script.StdinPipe()
	if err != nil {
		return err
	}
	s.lifeline = stdin
	stdout, err := s.script.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr strings.Builder
	s.script.Stderr = &stderr
	if err := s.script.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	conf, ready := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "ready ")
	if err != nil || !ready {
		return fmt.Errorf("%s: %w: %s", s.script.Path, errors.Join(err, s.stop()), &stderr)
	}
	s.conf = conf
	return nil
}

// stop ends the cluster and waits until nothing of it is left.
func (s *server) stop() error {
	return errors.Join(s.lifeline.Close(), s.script.Wait())
}

// scriptPath finds the script from the folder that a test runs in, its package's.
func scriptPath() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "scripts", "ceph-cluster.sh")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("scripts/ceph-cluster.sh: %w above the working folder", os.ErrNotExist)
		}
		dir = up
	}
}
