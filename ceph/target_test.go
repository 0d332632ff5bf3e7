//go:build cgo && !noceph

package ceph_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/tests/cluster"
)

const mib = 1 << 20

func openTarget(t *testing.T, c *cluster.Cluster, defaults target.Layout) *ceph.Target {
	t.Helper()
	tg, err := ceph.OpenTarget(t.Context(), ceph.Config{Conf: c.Conf}, defaults, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	})
	return tg
}

func newJob(image string, update bool, from string, to ...string) *target.Job {
	name := target.Name{Pool: "rbd", Image: image}
	if strings.Contains(image, "/") {
		name, _ = target.ParseName(image)
	}
	job := &target.Job{ID: fmt.Sprintf("%016x", rand.Uint64()), Image: name, Update: update, From: []byte(from)}
	for _, name := range to {
		job.To = append(job.To, []byte(name))
	}
	return job
}

func create(t *testing.T, tg target.Target, job *target.Job, size int64, l target.Layout) target.Image {
	t.Helper()
	im, err := tg.Create(t.Context(), job, size, l)
	return closing(t, im, err)
}

// lock opens an image that exists, and locks it.
func lock(t *testing.T, tg target.Target, job *target.Job) target.Image {
	t.Helper()
	im, err := tg.Open(t.Context(), job)
	im = closing(t, im, err)
	must(t, im.Lock(t.Context()))
	return im
}

func closing(t *testing.T, im target.Image, err error) target.Image {
	t.Helper()
	must(t, err)
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Error(err)
		}
	})
	return im
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErrno(t *testing.T, what string, err error, errno syscall.Errno) {
	t.Helper()
	if !target.HasErrno(err, errno) {
		t.Errorf("%s: %v, want %v", what, err, errno)
	}
}

// noise is data that nothing compresses away, and nothing else happens to be.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

func export(c *cluster.Cluster, image string) []byte {
	return []byte(c.Rbd("export", "--no-progress", image, "-"))
}

func wantBytes(t *testing.T, c *cluster.Cluster, image string, want []byte) {
	t.Helper()
	got := export(c, image)
	if bytes.Equal(got, want) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d bytes, want %d", image, len(got), len(want))
	}
	i := 0
	for got[i] == want[i] {
		i++
	}
	t.Fatalf("%s differs from byte %d on", image, i)
}

// put makes an image with the real rbd.
func put(t *testing.T, c *cluster.Cluster, image string, data []byte, options ...string) {
	t.Helper()
	cmd := c.Command(t.Context(), "rbd", append([]string{"import", "--no-progress", "-", image}, options...)...)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

type info struct {
	Size       uint64   `json:"size"`
	Order      int      `json:"order"`
	Features   []string `json:"features"`
	StripeUnit uint64   `json:"stripe_unit"`
	Stripes    uint64   `json:"stripe_count"`
	DataPool   string   `json:"data_pool"`
	Objects    int      `json:"objects"`
}

func infoOf(t *testing.T, c *cluster.Cluster, image string) info {
	t.Helper()
	var i info
	must(t, json.Unmarshal([]byte(c.Rbd("info", "--format", "json", image)), &i))
	return i
}

func snapshots(t *testing.T, c *cluster.Cluster, image string) string {
	t.Helper()
	var list []struct {
		Name      string `json:"name"`
		Size      int64  `json:"size"`
		Protected string `json:"protected"`
	}
	must(t, json.Unmarshal([]byte(c.Rbd("snap", "ls", "--format", "json", image)), &list))
	var all []string
	for _, s := range list {
		all = append(all, fmt.Sprintf("%s %d %s", s.Name, s.Size, s.Protected))
	}
	return strings.Join(all, "\n")
}

// state is all that a restore may change of an image: what it must not change when
// it fails. rbd can't list namespaces it can't name, so the pool is given.
func state(t *testing.T, c *cluster.Cluster, image string) string {
	t.Helper()
	text := fmt.Sprintf("size %d\nmeta %s\nsnapshots %s\nHEAD %x\n", infoOf(t, c, image).Size,
		c.Rbd("image-meta", "ls", image), snapshots(t, c, image), sha256.Sum256(export(c, image)))
	return text + strings.TrimSpace(c.Rbd("lock", "ls", image))
}

func images(c *cluster.Cluster, pool string) []string {
	names := strings.Fields(c.Rbd("ls", pool))
	slices.Sort(names)
	return names
}

// assertNoTemporary: nothing of an aborted job is left.
func assertNoTemporary(t *testing.T, c *cluster.Cluster, job *target.Job) {
	t.Helper()
	pool := job.Image.Pool
	if job.Image.Namespace != "" {
		pool += "/" + job.Image.Namespace
	}
	for _, name := range images(c, pool) {
		if strings.Contains(name, job.ID) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestCreateAndCommit: a new image grows unseen, has its name after Commit, and
// can be written to from then on.
func TestCreateAndCommit(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "", "s1", "s2\xff\n")
	const size = 20*mib + 1000
	im := create(t, tg, job, 8*mib, target.Layout{})
	want := make([]byte, size)
	must(t, im.Resize(t.Context(), size))
	write := func(seed uint64, off, n int) {
		t.Helper()
		p := noise(seed, n)
		copy(want[off:], p)
		must(t, im.WriteAt(t.Context(), p, int64(off)))
	}
	write(1, 3*mib+7, 9*mib)
	must(t, im.Snapshot(t.Context(), "s1", true))
	first := bytes.Clone(want)
	write(2, size-100, 100)
	clear(want[5*mib+1 : 7*mib+77])
	must(t, im.Zero(t.Context(), 5*mib+1, 2*mib+76))
	must(t, im.Snapshot(t.Context(), "s2\xff\n", false))
	if found, err := tg.Exists(t.Context(), job.Image); err != nil || found {
		t.Errorf("Exists = %v, %v before the commit", found, err)
	}
	must(t, im.Commit(t.Context()))
	name := job.Image.Image
	wantBytes(t, c, name, want)
	wantBytes(t, c, name+"@s1", first)
	if got := snapshots(t, c, name); !strings.HasPrefix(got, fmt.Sprintf("s1 %d true\ns2", size)) {
		t.Errorf("snapshots %q", got)
	}
	write(3, 100, 4096)
	must(t, im.Commit(t.Context()))
	wantBytes(t, c, name, want)
	if found, err := tg.Exists(t.Context(), job.Image); err != nil || !found {
		t.Errorf("Exists = %v, %v after the commit", found, err)
	}
	if has, err := im.HasSnapshot(t.Context(), "s2\xff\n"); err != nil || !has {
		t.Errorf("HasSnapshot = %v, %v", has, err)
	}
	must(t, im.Close())
	if out := c.Rbd("status", name); !strings.Contains(out, "Watchers: none") {
		t.Errorf("after Close: %s", out)
	}
	assertNoTemporary(t, c, job)
}

// TestCommitOntoExisting: an image that came up meanwhile is not replaced.
func TestCommitOntoExisting(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "")
	im := create(t, tg, job, mib, target.Layout{})
	put(t, c, job.Image.Image, noise(1, 5000))
	before := state(t, c, job.Image.Image)
	wantErrno(t, "Commit", im.Commit(t.Context()), syscall.EEXIST)
	must(t, im.Abort(t.Context()))
	if after := state(t, c, job.Image.Image); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
	assertNoTemporary(t, c, job)
}

// TestAbortNew: nothing is left of a new image, protected snapshots included.
func TestAbortNew(t *testing.T) {
	c := cluster.Start(t)
	tg := openTarget(t, c, target.Layout{})
	job := newJob(c.Name("img"), false, "", "s1", "s2")
	im := create(t, tg, job, 4*mib, target.Layout{})
	must(t, im.WriteAt(t.Context(), noise(1, mib), 0))
	must(t, im.Snapshot(t.Context(), "s1", true))
	must(t, im.Snapshot(t.Context(), "s2", false))
	must(t, im.Abort(t.Context()))
	assertNoTemporary(t, c, job)
	if restored, err := tg.Recover(t.Context(), job); restored || err != nil {
		t.Errorf("Recover = %v, %v", restored, err)
	}
}

// TestLayout: what is asked for is what rbd shows, and what rbd would refuse leaves
// nothing.
func TestLayout(t *testing.T) {
	c := cluster.Start(t)
	c.Ceph("osd", "pool", "create", "layout-data", "8")
	c.Ceph("osd", "pool", "application", "enable", "layout-data", "rbd")
	tg := openTarget(t, c, target.Layout{})
	standard := "layering exclusive-lock object-map fast-diff deep-flatten"
	tests := []struct {
		name     string
		layout   target.Layout
		features string
		order    int
		stripes  uint64
		errno    syscall.Errno
	}{
		{name: "default", features: standard},
		{name: "order", layout: target.Layout{Order: 20}, features: standard, order: 20},
		{name: "names", layout: target.Layout{Features: []string{"layering"}}, features: "layering"},
		{name: "none", layout: target.Layout{Features: []string{}}},
		{
			name:   "names beat bits",
			layout: target.Layout{Features: []string{"layering"}, FeatureBits: 61, HasFeatureBits: true}, features: "layering",
		},
		{name: "bits", layout: target.Layout{FeatureBits: 5, HasFeatureBits: true}, features: "layering exclusive-lock"},
		{name: "no bits", layout: target.Layout{HasFeatureBits: true}},
		{
			name: "internal bits", layout: target.Layout{FeatureBits: 61 | 0xf80 | 2, HasFeatureBits: true}, features: standard,
		},
		{
			name:   "fast-diff alone",
			layout: target.Layout{FeatureBits: 1 | 4 | 16, HasFeatureBits: true}, features: "layering exclusive-lock",
		},
		{name: "object-map alone", layout: target.Layout{FeatureBits: 1 | 8 | 16, HasFeatureBits: true}, features: "layering"},
		{name: "unknown bits", layout: target.Layout{FeatureBits: 1 << 40, HasFeatureBits: true}, errno: syscall.ENOSYS},
		{name: "unknown name", layout: target.Layout{Features: []string{"nonsense"}}, errno: syscall.EINVAL},
		{
			name:   "striped",
			layout: target.Layout{Order: 20, StripeUnit: 65536, StripeCount: 4}, features: standard + " striping", order: 20, stripes: 4,
		},
		{name: "trivial stripes", layout: target.Layout{Order: 22, StripeUnit: 4 * mib, StripeCount: 1}, features: standard},
		{name: "unit without count", layout: target.Layout{StripeUnit: 65536}, errno: syscall.EINVAL},
		{name: "odd unit", layout: target.Layout{StripeUnit: 65537, StripeCount: 2}, errno: syscall.EINVAL},
		{name: "small objects", layout: target.Layout{Order: 11}, errno: syscall.EINVAL},
		{name: "big objects", layout: target.Layout{Order: 26}, errno: syscall.EINVAL},
		{
			name:   "data pool",
			layout: target.Layout{DataPool: "layout-data", Features: []string{"layering"}}, features: "layering data-pool",
		},
		{name: "no such data pool", layout: target.Layout{DataPool: "absent"}, errno: syscall.ENOENT},
		{name: "meta", layout: target.Layout{Meta: map[string]string{"a": "b", "": "c", "conf_rbd_cache": "true"}}, features: standard},
		{name: "bad setting", layout: target.Layout{Meta: map[string]string{"conf_rbd_cache": "maybe"}}, errno: syscall.EINVAL},
		{name: "no such setting", layout: target.Layout{Meta: map[string]string{"conf_absent": "1"}}, errno: syscall.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			job := newJob(strings.ReplaceAll("layout-"+tt.name, " ", "-"), false, "")
			im, err := tg.Create(t.Context(), job, 4*mib, tt.layout)
			if tt.errno != 0 {
				wantErrno(t, "Create", err, tt.errno)
				assertNoTemporary(t, c, job)
				return
			}
			im = closing(t, im, err)
			must(t, im.WriteAt(t.Context(), noise(1, 4*mib), 0))
			must(t, im.Commit(t.Context()))
			got := infoOf(t, c, job.Image.Image)
			want := strings.Fields(tt.features)
			slices.Sort(want)
			slices.Sort(got.Features)
			if !slices.Equal(got.Features, want) {
				t.Errorf("features %q, want %q", got.Features, want)
			}
			if got.Order != cmp.Or(tt.order, 22) {
				t.Errorf("order %d", got.Order)
			}
			if got.Stripes != tt.stripes && (tt.stripes != 0 || got.Stripes > 1) {
				t.Errorf("stripe count %d", got.Stripes)
			}
			if got.DataPool != tt.layout.DataPool {
				t.Errorf("data pool %q", got.DataPool)
			}
			if tt.layout.Meta != nil {
				if out := c.Rbd("image-meta", "get", job.Image.Image, "a"); strings.TrimSpace(out) != "b" {
					t.Errorf("meta %q", out)
				}
			}
			wantBytes(t, c, job.Image.Image, noise(1, 4*mib))
		})
	}
}

// TestFolders: pools and namespaces are found, and made only by the administrator.
func TestFolders(t *testing.T) {
	c := cluster.Start(t)
	c.Ceph("osd", "pool", "create", "folders", "8")
	c.Ceph("osd", "pool", "application", "enable", "folders", "rbd")
	c.Ceph("osd", "pool", "create", "objects", "8")
	c.Ceph("osd", "pool", "application", "enable", "objects", "rgw")
	for _, ns := range []string{"b", "a"} {
		c.Rbd("namespace", "create", "folders/"+ns)
	}
	tg := openTarget(t, c, target.Layout{})
	pools, err := tg.Pools(t.Context())
	if err != nil || !slices.IsSorted(pools) || !slices.Contains(pools, "folders") || !slices.Contains(pools, "rbd") || slices.Contains(pools, "objects") {
		t.Errorf("Pools = %q, %v", pools, err)
	}
	if ns, err := tg.Namespaces(t.Context(), "folders"); err != nil || !slices.Equal(ns, []string{"a", "b"}) {
		t.Errorf("Namespaces = %q, %v", ns, err)
	}
	_, err = tg.Namespaces(t.Context(), "absent")
	wantErrno(t, "Namespaces", err, syscall.ENOENT)
	wantErrno(t, "MakeFolder", tg.MakeFolder(t.Context(), "folders", ""), syscall.EEXIST)
	wantErrno(t, "MakeFolder", tg.MakeFolder(t.Context(), "folders", "a"), syscall.EEXIST)
	for args, hint := range map[[2]string]string{
		{"absent", ""}: "ceph osd pool create absent", {"folders", "c"}: "rbd namespace create folders/c",
	} {
		err := tg.MakeFolder(t.Context(), args[0], args[1])
		wantErrno(t, "MakeFolder", err, syscall.EPERM)
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%v lacks %q", err, hint)
		}
	}
	for _, name := range []string{"absent/i", "folders/absent/i"} {
		job := newJob(name, false, "")
		_, err = tg.Exists(t.Context(), job.Image)
		wantErrno(t, "Exists", err, syscall.ENOENT)
		_, err = tg.Create(t.Context(), job, mib, target.Layout{})
		wantErrno(t, "Create", err, syscall.ENOENT)
		_, err = tg.Open(t.Context(), job)
		wantErrno(t, "Open", err, syscall.ENOENT)
		if restored, err := tg.Recover(t.Context(), job); restored || err != nil {
			t.Errorf("Recover = %v, %v", restored, err)
		}
	}
	job := newJob("folders/a/img", false, "")
	im := create(t, tg, job, mib, target.Layout{})
	must(t, im.WriteAt(t.Context(), noise(1, mib), 0))
	must(t, im.Commit(t.Context()))
	wantBytes(t, c, "folders/a/img", noise(1, mib))
	must(t, im.Close())
	im = lock(t, tg, newJob("folders/a/img", true, ""))
	must(t, im.Guard(t.Context()))
	must(t, im.Zero(t.Context(), 0, mib))
	must(t, im.Abort(t.Context()))
	wantBytes(t, c, "folders/a/img", noise(1, mib))
}

// TestTargetName: the target is called what the user calls it.
func TestTargetName(t *testing.T) {
	c := cluster.Start(t)
	tg, err := ceph.OpenTarget(t.Context(), ceph.Config{Conf: c.Conf, User: "admin"}, target.Layout{}, slog.New(slog.DiscardHandler))
	must(t, err)
	if got, want := tg.String(), "ceph:?conf="+c.Conf+"&user=admin"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	must(t, tg.Close())
	_, err = tg.Pools(t.Context())
	if !errors.Is(err, ceph.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
