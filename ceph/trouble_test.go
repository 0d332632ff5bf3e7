//go:build cgo && !noceph

package ceph_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/tests/cluster"
)

// untilFull writes until the cluster says that there is no room, which it notices
// after some seconds.
func untilFull(t *testing.T, im target.Image) error {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for i := uint64(0); time.Now().Before(deadline); i++ {
		// Each time a new object: overwriting needs no room.
		if err := im.WriteAt(t.Context(), noise(i, 4096), int64(i)*4*mib); err != nil {
			return err
		}
	}
	t.Fatal("nothing said that the pool is full")
	return nil
}

// TestFull: a write that finds no room says so instead of waiting. A new image can
// be removed then; an update that needs room to be undone is undone later.
func TestFull(t *testing.T) {
	ratios := func(c *cluster.Cluster, ratio string) {
		for _, kind := range []string{"nearfull", "backfillfull", "full"} {
			c.Ceph("osd", "set-"+kind+"-ratio", ratio)
		}
	}
	quota := func(c *cluster.Cluster, objects string) {
		c.Ceph("osd", "pool", "set-quota", "rbd", "max_objects", objects)
	}
	tests := map[string]struct{ fill, free func(c *cluster.Cluster) }{
		"quota": {func(c *cluster.Cluster) { quota(c, "3") }, func(c *cluster.Cluster) { quota(c, "0") }},
		"ratio": {func(c *cluster.Cluster) { ratios(c, "0.00001") }, func(c *cluster.Cluster) { ratios(c, "0.95") }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := cluster.StartOwn(t, cluster.WithManager)
			tg := openTarget(t, c, target.Layout{})
			original(t, c, "old")
			before := state(t, c, "old")
			update := newJob("old", true, "s1", "s2")
			up := lock(t, tg, update)
			must(t, up.Guard(t.Context()))
			must(t, up.Resize(t.Context(), 5*mib))
			must(t, up.Zero(t.Context(), 0, mib))
			must(t, up.Snapshot(t.Context(), "s2", true))
			job := newJob("new", false, "", "s1")
			im := create(t, tg, job, 1<<40, target.Layout{})
			must(t, im.Snapshot(t.Context(), "s1", true))
			tt.fill(c)
			err := untilFull(t, im)
			wantErrno(t, "WriteAt", err, syscall.ENOSPC)
			if err != nil && !strings.Contains(err.Error(), "ceph df") {
				t.Errorf("%v has no hint", err)
			}
			must(t, im.Abort(t.Context()))
			assertNoTemporary(t, c, job)
			wantErrno(t, "Abort without room", up.Abort(t.Context()), syscall.ENOSPC)
			tt.free(c)
			awaitRoom(t, tg, update)
			if after := state(t, c, "old"); after != before {
				t.Errorf("was\n%s\nis\n%s", before, after)
			}
		})
	}
}

// awaitRoom recovers a job as soon as the cluster has noticed that there is room.
func awaitRoom(t *testing.T, tg target.Target, job *target.Job) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(90 * time.Second)
	for range tick.C {
		_, err := tg.Recover(t.Context(), job)
		if err == nil {
			return
		}
		if !target.HasErrno(err, syscall.ENOSPC) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestPoolRemoved: the image's pool goes away under a restore.
func TestPoolRemoved(t *testing.T) {
	c := cluster.Start(t)
	c.Ceph("osd", "pool", "create", "fleeting", "8")
	c.Ceph("osd", "pool", "application", "enable", "fleeting", "rbd")
	tg := openTarget(t, c, target.Layout{})
	job := newJob("fleeting/img", false, "")
	im := create(t, tg, job, 16*mib, target.Layout{})
	c.Ceph("osd", "pool", "rm", "fleeting", "fleeting", "--yes-i-really-really-mean-it")
	err := im.WriteAt(t.Context(), noise(1, 4096), 0)
	wantErrno(t, "WriteAt", err, syscall.EIO)
	if err != nil && !strings.Contains(err.Error(), "was removed") {
		t.Errorf("%v doesn't say why", err)
	}
	must(t, im.Abort(t.Context()))
}

// TestImageInUseCantBeRemoved: while it is being restored to, rbd keeps it.
func TestImageInUseCantBeRemoved(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "")
	im := create(t, tg, job, mib, target.Layout{})
	if _, err := c.RbdErr("rm", "--no-progress", "rbdbackupfs-import-"+job.ID); err == nil {
		t.Error("rbd rm removed it")
	}
	must(t, im.Abort(t.Context()))
}

// TestSilentCluster: an OSD that hangs becomes an error after the user's timeout,
// and a context ends the wait for it at once.
func TestSilentCluster(t *testing.T) {
	c := cluster.StartOwn(t)
	cfg := ceph.Config{Conf: c.Conf, Options: map[string]string{"rados_osd_op_timeout": "2"}}
	tg, err := ceph.OpenTarget(t.Context(), cfg, target.Layout{}, slog.New(slog.DiscardHandler))
	must(t, err)
	im := create(t, tg, newJob(c.Name("img"), false, ""), 16*mib, target.Layout{})
	osd := c.Daemon("osd")
	osd.Pause()
	defer osd.Continue()
	err = im.WriteAt(t.Context(), noise(1, 4096), 0)
	wantErrno(t, "WriteAt", err, syscall.EIO)
	if err != nil && !strings.Contains(err.Error(), "ceph -s") {
		t.Errorf("%v has no hint", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := im.Snapshot(ctx, "s", false); err == nil || time.Since(began) > time.Second {
		t.Errorf("Snapshot = %v after %v", err, time.Since(began))
	}
	osd.Continue()
	must(t, im.Abort(t.Context()))
	must(t, tg.Close())
}

// TestLockLeft: the lock of a handle that could not be closed properly doesn't keep
// the same connection from undoing what was done with it.
func TestLockLeft(t *testing.T) {
	c := cluster.StartOwn(t, cluster.WithDisk)
	c.Ceph("config", "set", "osd", "osd_client_watch_timeout", "2")
	before := original(t, c, c.Name("img"))
	// With less than the 10 seconds after which librados asks for a new map of the
	// OSDs, it would never learn that the OSD is back.
	cfg := ceph.Config{Conf: c.Conf, Options: map[string]string{"rados_osd_op_timeout": "12"}}
	tg, err := ceph.OpenTarget(t.Context(), cfg, target.Layout{}, slog.New(slog.DiscardHandler))
	must(t, err)
	job := newJob(c.Name("img"), true, "", "s")
	im := lock(t, tg, job)
	must(t, im.Guard(t.Context()))
	must(t, im.WriteAt(t.Context(), noise(1, 4096), 0))
	osd := c.Daemon("osd")
	osd.KillOSD()
	err = im.WriteAt(t.Context(), noise(2, 4096), 0)
	wantErrno(t, "WriteAt", err, syscall.EIO)
	_ = im.Close() // whether the lock is given back, it doesn't say
	osd.StartOSD()
	c.Rbd("ls") // it serves again
	restored, err := tg.Recover(t.Context(), job)
	for deadline := time.Now().Add(2 * time.Minute); target.IsSilent(err) && time.Now().Before(deadline); {
		restored, err = tg.Recover(t.Context(), job)
	}
	must(t, err)
	if restored || !bytes.Equal(export(c, c.Name("img")), before) {
		t.Errorf("restored %v, or other bytes", restored)
	}
	must(t, tg.Close())
}
