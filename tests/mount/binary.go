// Package mount holds the black-box tests of a mounted repository, and the one
// helper that they mount with:
//
//	m := mount.Start(t, repo)
//	data, err := os.ReadFile(m.Image("rbd/vm1", "monday"))
//
// It runs the real program, as a user would. When the test ends it unmounts and
// asserts what every mount owes: nothing is mounted any more, the process is
// gone, it logged no warning, and the backup files are what they were, byte for
// byte. Under -race the program is built with the race detector as well, and
// what that finds fails the test.
package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// BinaryVar is the environment variable that names a program to test in place of
// one that is built from the sources.
const BinaryVar = "RBDBACKUPFS_TEST_BINARY"

// commandLimit ends a command that hangs.
const commandLimit = 2 * time.Minute

// builder builds the program once in the life of a test binary, which has
// nowhere else to keep it.
var builder struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Main is for TestMain. It runs the tests and removes the program that they built.
func Main(m *testing.M) int {
	defer func() {
		if builder.dir != "" {
			_ = os.RemoveAll(builder.dir)
		}
	}()
	return m.Run()
}

// Binary returns the path of the program.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(BinaryVar); path != "" {
		return path
	}
	builder.once.Do(build)
	if builder.err != nil {
		t.Fatalf("building rbdbackupfs: %v", builder.err)
	}
	return builder.path
}

func build() {
	root, err := moduleRoot()
	if err != nil {
		builder.err = err
		return
	}
	if builder.dir, builder.err = os.MkdirTemp("", "rbdbackupfs-bin-"); builder.err != nil {
		return
	}
	builder.path = filepath.Join(builder.dir, "rbdbackupfs")
	args := []string{"build", "-o", builder.path, "-tags", tags(root)}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/rbdbackupfs")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		builder.err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// tags are the build tags that fit the machine: those of its Ceph, or none.
func tags(root string) string {
	if given := os.Getenv("CEPH_BUILD_TAGS"); given != "" {
		return given
	}
	out, err := exec.Command(filepath.Join(root, "scripts", "ceph-tags.sh")).Output()
	if err != nil {
		return "noceph"
	}
	return strings.TrimSpace(string(out))
}

// moduleRoot is the folder of go.mod, above the folder that a test runs in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("go.mod: %w above the working folder", os.ErrNotExist)
		}
		dir = up
	}
}

// A Result is how a command ended.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int // exit status, -1 when it was killed
}

// String is for messages.
func (r Result) String() string {
	return fmt.Sprintf("rbdbackupfs %s: exit status %d\n%s%s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Run runs the program and returns how it ended, whatever its exit status.
func Run(t testing.TB, args ...string) Result {
	t.Helper()
	return run(t, Binary(t), nil, args)
}

func run(t testing.TB, binary string, env, args []string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A daemon that keeps its parent's output open must not make this wait.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("rbdbackupfs %s: %v\n%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), &stderr)
	}
	return Result{args, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
