package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// childVar makes this test binary the child of TestDiesWithItsProcess.
const childVar = "RBDBACKUPFS_TEST_CLUSTER_CHILD"

func TestClusterServesRbd(t *testing.T) {
	c := Start(t)
	image := c.Name("img")
	c.Rbd("create", "--size", "8M", image)
	c.Rbd("snap", "create", "--no-progress", image+"@s1")
	if got := c.Rbd("snap", "ls", image); !strings.Contains(got, "s1") {
		t.Errorf("rbd snap ls says %q, want s1 in it", got)
	}
	_, err := c.RbdErr("info", image+"-absent")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("rbd info of an absent image: %v, want status 2 and rbd's words", err)
	}
}

func TestHandlesShareOneCluster(t *testing.T) {
	a, b := Start(t), Start(t)
	if a.Conf != b.Conf {
		t.Errorf("two handles on two clusters: %s and %s", a.Conf, b.Conf)
	}
	a.Stop()
	a.Stop()
	b.Ceph("osd", "ls")
}

func TestClustersCoexistAndStop(t *testing.T) {
	var c [2]*Cluster
	for i := range c {
		c[i] = StartOwn(t)
		c[i].Rbd("create", "--size", "1M", fmt.Sprintf("only-in-%d", i))
	}
	for i := range c {
		if got, want := strings.TrimSpace(c[i].Rbd("ls")), fmt.Sprintf("only-in-%d", i); got != want {
			t.Errorf("cluster %d holds %q, want %q", i, got, want)
		}
	}
	for i := range c {
		c[i].Stop()
		assertGone(t, c[i].Conf)
	}
}

// TestDiesWithItsProcess kills a process that runs a cluster, which leaves it no
// chance to clean up, and waits for the supervising script to end.
func TestDiesWithItsProcess(t *testing.T) {
	testenv.Need(t, "ceph")
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childVar+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Close() }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var conf string
	var script int
	for lines := bufio.NewScanner(stdout); conf == "" && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "child: %d %s", &script, &conf)
	}
	if conf == "" {
		t.Fatalf("the child started no cluster: %v", cmd.Wait())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitExit(t, script)
	assertGone(t, conf)
}

// TestChild is no test of its own: it is what TestDiesWithItsProcess kills.
func TestChild(t *testing.T) {
	if os.Getenv(childVar) == "" {
		return
	}
	s, err := startServer()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("child: %d %s\n", s.script.Process.Pid, s.conf)
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

// assertGone fails the test when a process or a file of the cluster is left.
func assertGone(t *testing.T, conf string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		// A process that ended meanwhile has no command line any more.
		if text, err := os.ReadFile(line); err == nil && strings.Contains(string(text), conf) {
			t.Errorf("%s still runs: %q", line, text)
		}
	}
	if _, err := os.Stat(filepath.Dir(conf)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", filepath.Dir(conf), err)
	}
}
