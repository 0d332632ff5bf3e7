//go:build cgo && !noceph

package ceph_test

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/tests/cluster"
)

// original makes an image with a snapshot s1, and something in it.
func original(t *testing.T, c *cluster.Cluster, image string, options ...string) []byte {
	t.Helper()
	data := noise(7, 10*mib+512)
	clear(data[2*mib : 6*mib])
	put(t, c, image, data, options...)
	c.Rbd("snap", "create", "--no-progress", image+"@s1")
	c.Rbd("snap", "protect", image+"@s1")
	return data
}

// scribble changes everything a restore can change.
func scribble(t *testing.T, im target.Image, snapshot string) {
	t.Helper()
	must(t, im.Resize(t.Context(), 3*mib))
	must(t, im.Resize(t.Context(), 16*mib))
	must(t, im.WriteAt(t.Context(), noise(8, 2*mib), mib))
	must(t, im.Zero(t.Context(), 0, 4096))
	if snapshot != "" {
		must(t, im.Snapshot(t.Context(), snapshot, true))
		must(t, im.WriteAt(t.Context(), noise(9, 2*mib), 12*mib))
	}
}

// layouts are the options that the same test must hold for.
func layouts() map[string][]string {
	return map[string][]string{
		"default": nil,
		"plain":   {"--image-feature", "layering"},
		"striped": {"--object-size", "1M", "--stripe-unit", "64K", "--stripe-count", "4"},
	}
}

// TestUpdate: an image that exists is changed, and Commit takes the guard away.
func TestUpdate(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	for name, options := range layouts() {
		t.Run(name, func(t *testing.T) {
			image := "update-" + name
			want := original(t, c, image, options...)
			job := newJob(image, true, "s1", "s2")
			im := lock(t, tg, job)
			if same, err := im.Unchanged(t.Context(), "s1"); err != nil || !same {
				t.Errorf("Unchanged = %v, %v", same, err)
			}
			must(t, im.Guard(t.Context()))
			must(t, im.WriteAt(t.Context(), noise(8, 100), 5*mib))
			copy(want[5*mib:], noise(8, 100))
			must(t, im.Snapshot(t.Context(), "s2", false))
			must(t, im.Commit(t.Context()))
			must(t, im.WriteAt(t.Context(), noise(9, 100), 0))
			wantBytes(t, c, image+"@s2", want)
			copy(want, noise(9, 100))
			must(t, im.Commit(t.Context()))
			wantBytes(t, c, image, want)
			if got := snapshots(t, c, image); got != fmt.Sprintf("s1 %d true\ns2 %[1]d false", len(want)) {
				t.Errorf("snapshots %q", got)
			}
			if restored, err := tg.Recover(t.Context(), job); restored || err != nil {
				t.Errorf("Recover of an update that had ended = %v, %v", restored, err)
			}
			must(t, im.Close())
			wantBytes(t, c, image, want)
		})
	}
}

// TestAbortUpdate: bytes, size, snapshots, image-meta and locks are what they were.
func TestAbortUpdate(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	for name, options := range layouts() {
		t.Run(name, func(t *testing.T) {
			image := "abort-" + name
			original(t, c, image, options...)
			before := state(t, c, image)
			job := newJob(image, true, "s1", "s2")
			im := lock(t, tg, job)
			must(t, im.Guard(t.Context()))
			scribble(t, im, "s2")
			must(t, im.Abort(t.Context()))
			if after := state(t, c, image); after != before {
				t.Errorf("was\n%s\nis\n%s", before, after)
			}
			// A rollback rewrites objects; that is no change.
			im = lock(t, tg, newJob(image, true, "s1"))
			if same, err := im.Unchanged(t.Context(), "s1"); err != nil || !same {
				t.Errorf("Unchanged after the rollback = %v, %v", same, err)
			}
			must(t, im.Abort(t.Context()))
		})
	}
}

// TestAbortKeepsOthersSnapshots: a snapshot that bears a name of the job, and was
// there before, is not the job's.
func TestAbortKeepsOthersSnapshots(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	image := c.Name("img")
	original(t, c, image)
	before := state(t, c, image)
	im := lock(t, tg, newJob(image, true, "", "s1"))
	must(t, im.Guard(t.Context()))
	wantErrno(t, "Snapshot", im.Snapshot(t.Context(), "s1", false), syscall.EEXIST)
	must(t, im.Abort(t.Context()))
	if after := state(t, c, image); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
}

// TestAbortClone: what of a clone's parent a cut hid for good comes back as bytes.
func TestAbortClone(t *testing.T) {
	c := cluster.Start(t)
	for name, options := range layouts() {
		t.Run(name, func(t *testing.T) { abortClone(t, c, name, options) })
	}
}

func abortClone(t *testing.T, c *cluster.Cluster, name string, options []string) {
	t.Helper()
	tg := openTarget(t, c, target.Layout{})
	parent, image := "abort-parent-"+name, "abort-clone-"+name
	data := original(t, c, parent)
	c.Rbd(append([]string{"clone", parent + "@s1", image}, options...)...)
	c.Rbd("snap", "create", "--no-progress", image+"@c1")
	before := state(t, c, image)
	im := lock(t, tg, newJob(image, true, "c1", "c2"))
	must(t, im.Guard(t.Context()))
	must(t, im.Zero(t.Context(), mib+1, 7*mib))
	clear(data[mib+1 : 8*mib+1])
	wantBytes(t, c, image, data)
	scribble(t, im, "c2")
	must(t, im.Abort(t.Context()))
	if after := state(t, c, image); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
}

// TestUnchanged: every kind of change is seen.
func TestUnchanged(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	changes := map[string]func(image string){
		"bytes":  func(image string) { c.Rbd("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", image) },
		"larger": func(image string) { c.Rbd("resize", "--no-progress", "--size", "12M", image) },
		"smaller": func(image string) {
			c.Rbd("resize", "--no-progress", "--allow-shrink", "--size", "9M", image)
		},
		"cut and grown": func(image string) {
			c.Rbd("resize", "--no-progress", "--allow-shrink", "--size", "8M", image)
			c.Rbd("resize", "--no-progress", "--size", fmt.Sprintf("%dB", 10*mib+512), image)
		},
	}
	for name, options := range layouts() {
		for what, change := range changes {
			t.Run(name+"/"+what, func(t *testing.T) {
				image := strings.ReplaceAll("unchanged-"+name+"-"+what, " ", "-")
				original(t, c, image, options...)
				change(image)
				im := lock(t, tg, newJob(image, true, "s1"))
				if same, err := im.Unchanged(t.Context(), "s1"); err != nil || same {
					t.Errorf("Unchanged = %v, %v", same, err)
				}
			})
		}
	}
}

// TestUnchangedClone: a cut and grown clone shows zeros where its parent showed; one
// that was flattened shows what it did.
func TestUnchangedClone(t *testing.T) {
	c := cluster.Start(t)
	for name, options := range layouts() {
		t.Run(name, func(t *testing.T) { unchangedClone(t, c, name, options) })
	}
}

func unchangedClone(t *testing.T, c *cluster.Cluster, name string, options []string) {
	t.Helper()
	tg := openTarget(t, c, target.Layout{})
	parent, image := "unchanged-parent-"+name, "unchanged-clone-"+name
	data := original(t, c, parent)
	c.Rbd(append([]string{"clone", parent + "@s1", image}, options...)...)
	c.Rbd("snap", "create", "--no-progress", image+"@c1")
	cut := image + "-cut"
	c.Rbd(append([]string{"clone", parent + "@s1", cut}, options...)...)
	c.Rbd("snap", "create", "--no-progress", cut+"@c1")
	check := func(image string, want bool) {
		t.Helper()
		im := lock(t, tg, newJob(image, true, "c1"))
		if same, err := im.Unchanged(t.Context(), "c1"); err != nil || same != want {
			t.Errorf("Unchanged = %v, %v", same, err)
		}
		must(t, im.Close())
	}
	check(image, true)
	c.Rbd("flatten", "--no-progress", image)
	check(image, true)
	c.Rbd("resize", "--no-progress", "--allow-shrink", "--size", "8M", cut)
	c.Rbd("resize", "--no-progress", "--size", fmt.Sprintf("%dB", len(data)), cut)
	check(cut, false)
}

func TestEmpty(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	image := c.Name("img")
	c.Rbd("create", "--size", "20M", image)
	check := func(want bool) {
		t.Helper()
		im := lock(t, tg, newJob(image, true, ""))
		if empty, err := im.Empty(t.Context()); err != nil || empty != want {
			t.Errorf("Empty = %v, %v, want %v", empty, err, want)
		}
		must(t, im.Close())
	}
	check(true)
	c.Rbd("snap", "create", "--no-progress", image+"@s")
	check(false)
	c.Rbd("snap", "rm", "--no-progress", image+"@s")
	check(true)
	c.Rbd("bench", "--io-type", "write", "--io-size", "4K", "--io-total", "4K", image)
	check(false)
}

// TestSnapshotErrors: the errnos are rbd's, and a snapshot that can't be protected
// doesn't stay.
func TestSnapshotErrors(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "", "s1")
	im := create(t, tg, job, mib, target.Layout{Features: []string{}})
	wantErrno(t, "protect", im.Snapshot(t.Context(), "s1", true), syscall.ENOSYS)
	if has, err := im.HasSnapshot(t.Context(), "s1"); err != nil || has {
		t.Errorf("HasSnapshot = %v, %v", has, err)
	}
	must(t, im.Snapshot(t.Context(), "s1", false))
	wantErrno(t, "again", im.Snapshot(t.Context(), "s1", false), syscall.EEXIST)
	wantErrno(t, "empty name", im.Snapshot(t.Context(), "", false), syscall.EINVAL)
	must(t, im.Commit(t.Context()))
	if room, err := im.SnapshotRoom(t.Context()); err != nil || room >= 0 {
		t.Errorf("SnapshotRoom = %d, %v without a limit", room, err)
	}
	c.Rbd("snap", "limit", "set", "--limit", "2", job.Image.Image)
	if room, err := im.SnapshotRoom(t.Context()); err != nil || room != 1 {
		t.Errorf("SnapshotRoom = %d, %v", room, err)
	}
	must(t, im.Snapshot(t.Context(), "s2", false))
	wantErrno(t, "past the limit", im.Snapshot(t.Context(), "s3", false), syscall.EDQUOT)
	must(t, im.Close())
}

// TestGuardWithinLimit: where a limit leaves room for the job's own snapshot alone,
// the start snapshot stands in, unless something changed since.
func TestGuardWithinLimit(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	image := c.Name("img")
	original(t, c, image)
	c.Rbd("snap", "limit", "set", "--limit", "2", image)
	before := state(t, c, image)
	im := lock(t, tg, newJob(image, true, "s1", "s2"))
	must(t, im.Guard(t.Context()))
	scribble(t, im, "s2")
	must(t, im.Abort(t.Context()))
	if after := state(t, c, image); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}

	im = lock(t, tg, newJob(image, true, "s1", "s2"))
	must(t, im.Guard(t.Context()))
	must(t, im.WriteAt(t.Context(), noise(3, 100), 0))
	must(t, im.Snapshot(t.Context(), "s2", false))
	must(t, im.Commit(t.Context()))
	must(t, im.Close())
	if out := c.Rbd("image-meta", "ls", image); strings.Contains(out, "rbdbackupfs") {
		t.Errorf("left behind: %s", out)
	}
	if !bytes.Equal(export(c, image)[:100], noise(3, 100)) {
		t.Error("not what was written")
	}

	im = lock(t, tg, newJob(image, true, "s2", "s3"))
	wantErrno(t, "Guard without room", im.Guard(t.Context()), syscall.EDQUOT)
	must(t, im.Abort(t.Context()))
	c.Rbd("snap", "limit", "set", "--limit", "3", image)
	im = lock(t, tg, newJob(image, true, "s1", "s3"))
	wantErrno(t, "Guard of a changed image", im.Guard(t.Context()), syscall.EDQUOT)
	must(t, im.Abort(t.Context()))
}

// TestLockIsExclusive: an image that is in use is left alone, and one that we use
// is seen in use.
func TestLockIsExclusive(t *testing.T) {
	c := cluster.Start(t)
	for name, options := range layouts() {
		t.Run(name, func(t *testing.T) {
			ours, theirs := openTarget(t, c, target.Layout{}), openTarget(t, c, target.Layout{})
			image := "lock-" + name
			original(t, c, image, options...)
			looker, err := ours.Open(t.Context(), newJob(image, true, ""))
			looker = closing(t, looker, err)
			first := lock(t, theirs, newJob(image, true, ""))
			err = looker.Lock(t.Context())
			wantErrno(t, "Lock", err, syscall.EBUSY)
			if err == nil || !strings.Contains(err.Error(), "127.0.0.1:0/") || !strings.Contains(err.Error(), "rbd status rbd/"+image) {
				t.Errorf("%v doesn't say who", err)
			}
			if size := looker.Size(); size != 10*mib+512 {
				t.Errorf("Size = %d", size)
			}
			must(t, first.Abort(t.Context()))
			must(t, looker.Lock(t.Context()))
			must(t, looker.Abort(t.Context()))
			c.Rbd("lock", "add", image, "mine")
			if name != "plain" {
				im, err := ours.Open(t.Context(), newJob(image, true, ""))
				im = closing(t, im, err)
				wantErrno(t, "Lock of a locked image", im.Lock(t.Context()), syscall.EBUSY)
			}
		})
	}
}

// TestRefusedSizes: what librbd refuses is refused, and the size stays.
func TestRefusedSizes(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	im := create(t, tg, newJob(c.Name("img"), false, ""), mib, target.Layout{})
	wantErrno(t, "Resize", im.Resize(t.Context(), 1<<50), syscall.EINVAL)
	wantErrno(t, "Resize", im.Resize(t.Context(), -1), syscall.EINVAL)
	if im.Size() != mib {
		t.Errorf("Size = %d", im.Size())
	}
	wantErrno(t, "WriteAt", im.WriteAt(t.Context(), make([]byte, 2), mib-1), syscall.EINVAL)
	wantErrno(t, "Zero", im.Zero(t.Context(), mib, 1), syscall.EINVAL)
	must(t, im.Abort(t.Context()))
}

// TestZeroBeyondOneCall: librbd takes less than 2 GiB at once.
func TestZeroBeyondOneCall(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "")
	im := create(t, tg, job, 5<<30, target.Layout{})
	for _, off := range []int64{0, 1<<31 - 100, 5<<30 - 1000} {
		must(t, im.WriteAt(t.Context(), noise(1, 1000), off))
	}
	must(t, im.Zero(t.Context(), 1, 5<<30-2))
	must(t, im.Commit(t.Context()))
	out := c.Rbd("diff", "--format", "json", job.Image.Image)
	// The first and the last byte keep their objects, all others are gone.
	if n := strings.Count(out, "offset"); n != 2 {
		t.Errorf("%d extents are left: %s", n, out)
	}
}
