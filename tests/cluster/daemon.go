package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Daemon is one of the cluster's processes.
type Daemon struct {
	c   *Cluster
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
	return &Daemon{c, pid}
}

// Pause stops the process where it is: to its clients it doesn't answer any more.
func (d *Daemon) Pause() { d.signal(syscall.SIGSTOP) }

// Continue undoes Pause.
func (d *Daemon) Continue() { d.signal(syscall.SIGCONT) }

// KillOSD ends the OSD at once. With WithDisk its data stays.
func (d *Daemon) KillOSD() {
	d.c.t.Helper()
	d.signal(syscall.SIGKILL)
	awaitGone(d.c.t, d.pid)
}

// StartOSD starts an OSD that was killed. It ends with the test.
func (d *Daemon) StartOSD() {
	d.c.t.Helper()
	cmd := d.c.Command(context.Background(), "ceph-osd", "-f", "-i", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		d.c.t.Fatal(err)
	}
	d.pid = cmd.Process.Pid
	d.c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// awaitGone waits until a process that isn't our child has ended.
func awaitGone(t testing.TB, pid int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		// What is left of it until its parent notices has no command line.
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err != nil || len(line) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("process %d does not end", pid)
		}
	}
}

func (d *Daemon) signal(s syscall.Signal) {
	d.c.t.Helper()
	if err := syscall.Kill(d.pid, s); err != nil {
		d.c.t.Fatal(err)
	}
}
