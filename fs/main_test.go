package fs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// helperVar makes the test program mount small() at the folder it names, as
// another process. It says "ready" or the error, and unmounts at SIGTERM.
const (
	helperVar        = "RBDBACKUPFS_TEST_MOUNT"
	helperOptionsVar = "RBDBACKUPFS_TEST_OPTIONS"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(writerVar); mode != "" {
		os.Exit(writer(mode, os.Args[1]))
	}
	if path := os.Getenv(helperVar); path != "" {
		os.Exit(helper(path, os.Getenv(helperOptionsVar)))
	}
	os.Exit(m.Run())
}

func helper(path, options string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := rbdfs.Mount(path, small(), rbdfs.Options{
		FsName: "/backup", Extra: []string{options}, Importer: fstest.NewImporter(), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {
	case <-ctx.Done():
		if err := server.Unmount(); err != nil {
			fmt.Println(err)
			return 1
		}
	case <-server.Done():
	}
	return 0
}

// A process is another process that has mounted at Path.
type process struct {
	*exec.Cmd
	Path string
	out  *bufio.Reader
}

// start runs the helper, with cmd before it if that isn't empty.
func start(t testing.TB, path, options string, cmd ...string) (*process, error) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(cmd) > 0 {
		program = readable(t, program) // by another user
	}
	args := slices.Concat(cmd, []string{program})
	p := &process{Cmd: exec.Command(args[0], args[1:]...), Path: path}
	p.Env = append(os.Environ(), helperVar+"="+path, helperOptionsVar+"="+options)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t) })
	line, err := p.out.ReadString('\n')
	if line == "ready\n" {
		return p, nil
	}
	rest, readErr := io.ReadAll(p.out)
	return p, errors.Join(errors.New(line+string(rest)), err, readErr)
}

// end kills the process, and removes what it may have left.
func (p *process) end(t testing.TB) {
	t.Helper()
	if p.ProcessState == nil {
		p.kill(t)
	}
	if _, err := rbdfs.MountedAt(p.Path); err == nil {
		if err := fstest.Detach(p.Path); err != nil {
			t.Error(err)
		}
	}
}

// kill ends the process without a chance to unmount.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if err := p.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil && !strings.Contains(err.Error(), "signal: killed") && p.ProcessState.ExitCode() != 1 {
		t.Error(err)
	}
}

// readable copies the test program to where any user can run it.
func readable(t testing.TB, program string) string {
	t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(publicDir(t), "fs.test")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// publicDir is t.TempDir for any user.
func publicDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mountpoint is a new folder to mount on.
func mountpoint(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a command and returns what it says.
func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
