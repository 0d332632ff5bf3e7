// Package cluster gives tests a real Ceph cluster: one monitor and one OSD in
// memory, on loopback, in about a second.
//
//	func TestImport(t *testing.T) {
//		c := cluster.Start(t)
//		c.Rbd("create", "--size", "1G", "img")
//		...
//	}
//
// All tests of one test binary share one cluster, in any order and in parallel;
// image names must therefore differ (Name helps). It lives until the process
// ends, whichever way it ends: scripts/ceph-cluster.sh, which does all the work
// here, watches a pipe from this process, and its daemons die with it.
//
// To spare even that second while working on a test, start a cluster by hand and
// name its configuration:
//
//	scripts/ceph-cluster.sh start /tmp/c
//	RBDBACKUPFS_TEST_CEPH=/tmp/c/ceph.conf go test ./ceph
//	scripts/ceph-cluster.sh stop /tmp/c
//
// It is not a mock and knows no image formats: what a test wants from Ceph it
// asks of the real rbd.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

// ConfVar is the environment variable that names the ceph.conf of a cluster that
// runs already. Start then uses that one and never stops it.
const ConfVar = "RBDBACKUPFS_TEST_CEPH"

// commandLimit ends a command that a sick cluster would let wait for ever.
const commandLimit = 5 * time.Minute

// A Cluster is one test's handle on a running cluster.
type Cluster struct {
	// Conf is the path of its ceph.conf. The keyring for client.admin is named in it.
	Conf string

	t    testing.TB
	stop func() error
}

// process is the cluster that the tests of this process share. A test binary has
// nowhere else to keep what must outlive a single test.
var process shared

// Start returns a handle on the process's cluster and starts it when it does not
// run. It skips or fails the test, as testenv.Need does, where Ceph isn't
// installed.
func Start(t testing.TB) *Cluster {
	t.Helper()
	testenv.Need(t, "ceph")
	conf := os.Getenv(ConfVar)
	stop := func() error { return nil }
	if conf == "" {
		s, err := process.acquire()
		if err != nil {
			t.Fatalf("starting a Ceph cluster: %v", err)
		}
		conf = s.conf
		stop = sync.OnceValue(func() error { return process.release(s) })
	}
	return &Cluster{Conf: conf, t: t, stop: stop}
}

// WithManager has StartOwn start a manager as well: without one the monitors don't
// learn how full a pool is.
const WithManager = "--mgr"

// WithDisk has StartOwn keep the OSD's data on disk: it can be killed and started.
const WithDisk = "--disk"

// StartOwn starts a cluster that no other test sees and stops it at the end of
// the test: for tests that break it.
func StartOwn(t testing.TB, options ...string) *Cluster {
	t.Helper()
	testenv.Need(t, "ceph")
	s, err := startServer(options...)
	if err != nil {
		t.Fatalf("starting a Ceph cluster: %v", err)
	}
	c := &Cluster{Conf: s.conf, t: t, stop: sync.OnceValue(s.stop)}
	t.Cleanup(c.Stop)
	return c
}

// Stop gives the handle back. The cluster ends with the last handle: its
// daemons are gone when Stop returns. Calling it is optional, see Start; calling
// it twice is harmless. It never stops a cluster named by ConfVar.
func (c *Cluster) Stop() {
	c.t.Helper()
	if err := c.stop(); err != nil {
		c.t.Errorf("stopping the Ceph cluster: %v", err)
	}
}

// Name returns an image name that no other test of the process uses: prefix and
// the test's name, without the bytes that mean something to rbd.
func (c *Cluster) Name(prefix string) string {
	return prefix + "-" + strings.NewReplacer("/", "-", "@", "-", " ", "-", "#", "-").Replace(c.t.Name())
}

// Rbd runs rbd and returns its standard output. When rbd fails, the test fails
// with rbd's own words.
func (c *Cluster) Rbd(args ...string) string {
	c.t.Helper()
	out, err := c.RbdErr(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// RbdErr runs rbd and returns its standard output. The error holds rbd's
// standard error and wraps an *exec.ExitError.
func (c *Cluster) RbdErr(args ...string) (string, error) {
	return c.run("rbd", args)
}

// Ceph runs ceph and returns its standard output. When it fails, so does the test.
func (c *Cluster) Ceph(args ...string) string {
	c.t.Helper()
	out, err := c.run("ceph", args)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// Command returns a command of Ceph's own programs, set up for this cluster but
// not started: for pipes.
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, append([]string{"-c", c.Conf}, args...)...)
	cmd.Env = environ()
	return cmd
}

func (c *Cluster) run(name string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := c.Command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return stdout.String(), nil
}

// environ is the process's environment without what would lead Ceph's programs
// to another cluster.
func environ() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CEPH_") {
			env = append(env, v)
		}
	}
	return env
}
