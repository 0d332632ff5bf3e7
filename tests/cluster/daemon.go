package cluster

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A Daemon is one of the cluster's processes.
type Daemon struct {
	t   testing.TB
	pid int
}

// Daemon returns the monitor ("mon") or the OSD ("osd"), for tests with a cluster
// of their own.
func (c *Cluster) Daemon(name string) *Daemon {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(c.Conf), "run", "ceph-"+name+".started"))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		c.t.Fatal(err)
	}
	return &Daemon{c.t, pid}
}

// Pause stops the process where it is: to its clients it doesn't answer any more.
func (d *Daemon) Pause() { d.signal(syscall.SIGSTOP) }

// Continue undoes Pause.
func (d *Daemon) Continue() { d.signal(syscall.SIGCONT) }

// Kill ends it for good, with all that it holds in memory.
func (d *Daemon) Kill() { d.signal(syscall.SIGKILL) }

func (d *Daemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := syscall.Kill(d.pid, s); err != nil {
		d.t.Fatal(err)
	}
}
