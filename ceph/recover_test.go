//go:build cgo && !noceph

package ceph_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/tests/cluster"
)

// childVar makes this test binary the process that TestRecover kills: it holds a
// killedJob.
const childVar = "RBDBACKUPFS_TEST_CEPH_CHILD"

type killedJob struct {
	Conf    string
	Job     target.Job
	Guarded bool
}

// TestKilledChild is no test of its own.
func TestKilledChild(t *testing.T) {
	text := os.Getenv(childVar)
	if text == "" {
		return
	}
	var k killedJob
	must(t, json.Unmarshal([]byte(text), &k))
	tg := openTarget(t, &cluster.Cluster{Conf: k.Conf}, target.Layout{})
	var im target.Image
	if k.Job.Update {
		im = lock(t, tg, &k.Job)
	} else {
		im = create(t, tg, &k.Job, mib, target.Layout{})
	}
	if k.Guarded {
		must(t, im.Guard(t.Context()))
		scribble(t, im, "s2")
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
}

// kill runs a job in another process up to its commit, and kills that.
func kill(t *testing.T, k killedJob) {
	t.Helper()
	text, err := json.Marshal(k)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$")
	cmd.Env = append(os.Environ(), childVar+"="+string(text))
	hold, err := cmd.StdinPipe()
	must(t, err)
	defer func() { _ = hold.Close() }()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait()
	if line != "ready\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
}

// impatient is a cluster that forgets dead clients sooner than after 30 seconds.
func impatient(t *testing.T) *cluster.Cluster {
	t.Helper()
	c := cluster.StartOwn(t)
	c.Ceph("config", "set", "osd", "osd_client_watch_timeout", "2")
	return c
}

// TestRecover: a job whose process was killed is undone, or committed when all of
// it was applied; again and again with the same outcome.
func TestRecover(t *testing.T) {
	c := impatient(t)
	tests := map[string]struct {
		update, guarded, complete, limit, changed bool
	}{
		"new":                     {guarded: true},
		"new complete":            {guarded: true, complete: true},
		"update":                  {update: true, guarded: true},
		"update complete":         {update: true, guarded: true, complete: true},
		"update limited":          {update: true, guarded: true, limit: true},
		"update limited complete": {update: true, guarded: true, limit: true, complete: true},
		"never guarded":           {update: true, changed: true},
		"never guarded, limited":  {update: true, changed: true, limit: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			image := strings.NewReplacer(" ", "-", ",", "").Replace("recover-" + name)
			var before string
			if tt.update {
				original(t, c, image)
				if tt.limit {
					c.Rbd("snap", "limit", "set", "--limit", "2", image)
				}
				if tt.changed {
					c.Rbd("resize", "--no-progress", "--size", "12M", image)
				}
				before = state(t, c, image)
			}
			job := newJob(image, tt.update, "s1", "s2")
			kill(t, killedJob{Conf: c.Conf, Job: *job, Guarded: tt.guarded})
			job.Complete = tt.complete
			tg := openTarget(t, c, target.Layout{})
			for range 2 {
				restored, err := tg.Recover(t.Context(), job)
				if err != nil || restored != tt.complete {
					t.Fatalf("Recover = %v, %v", restored, err)
				}
			}
			assertNoTemporary(t, c, job)
			if !tt.update && !tt.complete {
				return
			}
			if strings.Contains(c.Rbd("image-meta", "ls", image)+snapshots(t, c, image), "rbdbackupfs") {
				t.Error("the guard is left")
			}
			if tt.complete {
				if got := snapshots(t, c, image); !strings.HasSuffix(got, "s2 16777216 true") {
					t.Errorf("snapshots %q", got)
				}
				got := export(c, image)
				if string(got[12*mib:14*mib]) != string(noise(9, 2*mib)) {
					t.Error("what was written is gone")
				}
				return
			}
			// The lock of the dead client may still be noted; it hinders nobody.
			if after := state(t, c, image); withoutLocks(after) != withoutLocks(before) {
				t.Errorf("was\n%s\nis\n%s", before, after)
			}
		})
	}
}

func withoutLocks(state string) string {
	text, _, _ := strings.Cut(state, "There is 1 exclusive lock")
	return strings.TrimSpace(text)
}

// TestRecoverEndsWithItsContext: what can't be removed yet costs no more patience
// than the caller has, and is there the next time.
func TestRecoverEndsWithItsContext(t *testing.T) {
	c := cluster.Start(t)
	owner, tg := openTarget(t, c, target.Layout{}), openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "", "s1")
	im := create(t, owner, job, mib, target.Layout{})
	must(t, im.Snapshot(t.Context(), "s1", true))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := tg.Recover(ctx, job)
	wantErrno(t, "Recover of a live job", err, syscall.EBUSY)
	must(t, im.Close())
	if restored, err := tg.Recover(t.Context(), job); restored || err != nil {
		t.Errorf("Recover = %v, %v", restored, err)
	}
	assertNoTemporary(t, c, job)
}

// TestRecoverWithoutStartSnapshot: when what stood in for the guard was removed,
// nothing is rolled back to something else.
func TestRecoverWithoutStartSnapshot(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	image := c.Name("img")
	original(t, c, image)
	c.Rbd("snap", "limit", "set", "--limit", "2", image)
	job := newJob(image, true, "s1", "s2")
	im := lock(t, tg, job)
	must(t, im.Guard(t.Context()))
	must(t, im.WriteAt(t.Context(), noise(2, 100), 0))
	must(t, im.Close())
	c.Rbd("snap", "unprotect", image+"@s1")
	c.Rbd("snap", "rm", "--no-progress", image+"@s1")
	c.Rbd("snap", "create", "--no-progress", image+"@s1")
	before := state(t, c, image)
	_, err := tg.Recover(t.Context(), job)
	wantErrno(t, "Recover", err, syscall.EIO)
	if after := state(t, c, image); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
	job.Complete = true
	if restored, err := tg.Recover(t.Context(), job); err != nil || !restored {
		t.Errorf("Recover of what is complete = %v, %v", restored, err)
	}
}
