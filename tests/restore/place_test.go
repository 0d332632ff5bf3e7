package restore

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/mount"
	"rbdbackupfs/tests/scenario"
)

func TestMain(m *testing.M) {
	flag.Bool("rewrite", false, "write the golden files anew")
	os.Exit(mount.Main(m))
}

const (
	testdata     = "../testdata"
	commandLimit = 3 * time.Minute
)

// expectFailures are what the log may say in a test that makes restores fail.
func expectFailures() []string { return []string{"restore failed", "--inplace"} }

// A place is a mounted repository that restores to a target, and the means to
// look at what is there.
type place struct {
	t *testing.T
	m *mount.Mount
	c *cluster.Cluster // nil: a folder
	d string           // the folder

	rolledBack int // images that had to be
}

// inCeph mounts with a cluster as the target.
func inCeph(t *testing.T, c *cluster.Cluster, repo string, flags ...string) *place {
	t.Helper()
	flags = append([]string{"--import", "ceph:?conf=" + c.Conf}, flags...)
	return &place{t: t, c: c, m: mount.Start(t, repo, mount.Options{Flags: flags, Expected: expectFailures()})}
}

// inFolder mounts with a folder as the target.
func inFolder(t *testing.T, dir, repo string, flags ...string) *place {
	t.Helper()
	flags = append([]string{"--import", "file:" + dir}, flags...)
	return &place{t: t, d: dir, m: mount.Start(t, repo, mount.Options{Flags: flags, Expected: expectFailures()})}
}

// both runs a test with either target.
func both(t *testing.T, repo string, test func(t *testing.T, p *place)) {
	t.Run("ceph", func(t *testing.T) {
		testenv.Need(t, "fuse", "ceph")
		test(t, inCeph(t, cluster.Start(t), repo))
	})
	t.Run("file", func(t *testing.T) {
		testenv.Need(t, "fuse")
		test(t, inFolder(t, t.TempDir(), repo))
	})
}

// name is an image name of this test's own.
func (p *place) name(prefix string) string {
	if p.c == nil {
		return prefix
	}
	return p.c.Name(prefix)
}

// path is where an image of the pool rbd is written to.
func (p *place) path(image string) string { return p.m.Import("rbd", image) }

// bytes is an image, or a snapshot of it, as it is in the target.
func (p *place) bytes(spec string) []byte {
	p.t.Helper()
	if p.c != nil {
		return []byte(p.c.Rbd("export", "--no-progress", "rbd/"+spec, "-"))
	}
	text, err := os.ReadFile(filepath.Join(p.d, "rbd", spec+".img"))
	if err != nil {
		p.t.Error(err)
	}
	return text
}

// images are the names of what is there, whatever it is.
func (p *place) images() []string {
	p.t.Helper()
	if p.c != nil {
		return strings.Fields(p.c.Rbd("ls"))
	}
	entries, err := os.ReadDir(filepath.Join(p.d, "rbd"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".img"))
	}
	return names
}

// has tells whether an image is there.
func (p *place) has(image string) bool {
	for _, name := range p.images() {
		if name == image {
			return true
		}
	}
	return false
}

// wantsNothingLeft fails the test where a temporary image or snapshot is there.
func (p *place) wantsNothingLeft() {
	p.t.Helper()
	for _, name := range p.images() {
		if strings.Contains(name, "rbdbackupfs-") {
			p.t.Errorf("%s was left", name)
		}
		if p.c != nil {
			if snaps := p.c.Rbd("snap", "ls", "rbd/"+name); strings.Contains(snaps, "rbdbackupfs-") {
				p.t.Errorf("%s has\n%s", name, snaps)
			}
		}
	}
}

// wantsBytes compares an image, or a snapshot, with what it should be.
func (p *place) wantsBytes(spec string, want []byte) {
	p.t.Helper()
	if got := p.bytes(spec); !bytes.Equal(got, want) {
		p.t.Errorf("%s: %d bytes, which differ from the %d wanted ones", spec, len(got), len(want))
	}
}

// A result is how a program ended.
type result struct {
	out  string
	code int
}

// run runs a program, whatever its status.
func run(t *testing.T, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	path, err := testenv.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), out)
	}
	return result{string(out), cmd.ProcessState.ExitCode()}
}

// must runs a program that is to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := run(t, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: status %d\n%s", name, strings.Join(args, " "), r.code, r.out)
	}
	return r.out
}

// refused runs a program that is to fail with the words.
func refused(t *testing.T, words, name string, args ...string) {
	t.Helper()
	if r := run(t, name, args...); r.code == 0 || !strings.Contains(r.out, words) {
		t.Errorf("%s %s: status %d, want a failure with %q:\n%s", name, strings.Join(args, " "), r.code, words, r.out)
	}
}

// A made is an image in a cluster with exports of every kind, and what each
// snapshot is.
type made struct {
	dir       string // of the exports
	snapshots []string
	want      map[string][]byte
}

func (s *made) file(name string) string { return filepath.Join(s.dir, name) }

// exports makes an image with three snapshots of different sizes, and exports it
// as raw files, diffs and format 2.
func exports(t *testing.T, c *cluster.Cluster, size int64) *made {
	t.Helper()
	dir := t.TempDir()
	image := c.Name("source")
	b := scenario.NewBuilder(t.Context(), c.Conf, dir, "", scenario.Large(1))
	img := b.Create("rbd/"+image, "", size)
	s := &made{dir: dir, snapshots: []string{"s1", "s2", "s3"}, want: map[string][]byte{}}
	for i, name := range s.snapshots {
		img.Fill(int64(i)*size/8, size/8)
		img.Scatter(4)
		if i == 1 {
			img.Resize(size / 2)
		}
		img.Snap(name)
		img.Raw(name, ".raw")
	}
	img.Chain(s.snapshots)
	img.Container("all.rbd2")
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range s.snapshots {
		text, err := os.ReadFile(s.file(name + ".raw"))
		if err != nil {
			t.Fatal(err)
		}
		s.want[name] = text
	}
	return s
}

// empty is a repository without images.
func empty(t *testing.T) string {
	t.Helper()
	return t.TempDir()
}
