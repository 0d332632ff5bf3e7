package restore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
)

// TestStory lives through what an administrator does after a loss: the full raw
// export, the diffs onto a dummy and onto each other, straight from a backup, and
// format 2. Each command's outcome is that of rbd.
func TestStory(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.Start(t)
	s := exports(t, c, 32<<20)
	p := inCeph(t, c, s.dir)
	raw, dummy := c.Name("raw"), c.Name("dummy")

	must(t, "cp", s.file("s1.raw"), p.path(raw))
	p.wantsBytes(raw, s.want["s1"])
	refused(t, "File exists", "cp", s.file("s1.raw"), p.path(raw))
	p.wantsBytes(raw, s.want["s1"])

	c.Rbd("create", "--size", "1M", dummy)
	refused(t, "Invalid argument", "cp", s.file("s1..s2.diff"), p.path(dummy))
	must(t, "cp", s.file("s1.diff"), p.path(dummy))
	p.wantsBytes(dummy, s.want["s1"])
	refused(t, "File exists", "cp", s.file("s1.diff"), p.path(dummy))
	must(t, "cp", s.file("s1..s2.diff"), p.path(dummy))
	refused(t, "File exists", "cp", s.file("s1..s2.diff"), p.path(dummy))
	must(t, "cp", s.file("s2..s3.diff"), p.path(dummy))
	for _, name := range s.snapshots {
		p.wantsBytes(dummy+"@"+name, s.want[name])
	}
	p.wantsBytes(dummy, s.want["s3"])

	absent := c.Name("absent")
	refused(t, "No such file", "cp", s.file("s1..s2.diff"), p.path(absent))
	if p.has(absent) {
		t.Error("a refused diff made an image")
	}

	direct := c.Name("direct")
	must(t, "cp", p.m.Image(filepath.Base(s.dir), "s2"), p.path(direct))
	p.wantsBytes(direct, s.want["s2"])

	all := c.Name("all")
	must(t, "cp", s.file("all.rbd2"), p.path(all))
	for _, name := range s.snapshots {
		p.wantsBytes(all+"@"+name, s.want[name])
	}
	refused(t, "File exists", "cp", s.file("all.rbd2"), p.path(all))
	p.wantsNothingLeft()
}

// TestStreams: rbd writes straight into it, and so do pipes.
func TestStreams(t *testing.T) {
	testenv.Need(t, "fuse", "ceph", "zstd")
	c := cluster.Start(t)
	s := exports(t, c, 32<<20)
	p := inCeph(t, c, empty(t))
	source := "rbd/" + c.Name("source")

	direct := c.Name("direct")
	c.Rbd("export-diff", "--no-progress", source+"@s1", p.path(direct))
	c.Rbd("export-diff", "--no-progress", source+"@s2", "--from-snap", "s1", p.path(direct))
	c.Rbd("export-diff", "--no-progress", source+"@s3", "--from-snap", "s2", p.path(direct))
	for _, name := range s.snapshots {
		p.wantsBytes(direct+"@"+name, s.want[name])
	}
	raw, two := c.Name("raw"), c.Name("two")
	c.Rbd("export", "--no-progress", source+"@s3", p.path(raw))
	p.wantsBytes(raw, s.want["s3"])
	c.Rbd("export", "--no-progress", "--export-format", "2", source, p.path(two))
	p.wantsBytes(two+"@s1", s.want["s1"])

	must(t, "zstd", "-q", s.file("all.rbd2"))
	packed := c.Name("packed")
	refused(t, "Invalid argument", "cp", s.file("all.rbd2.zst"), p.path(packed))
	must(t, "sh", "-c", "zstd -dc '"+s.file("all.rbd2.zst")+"' > '"+p.path(packed)+"'")
	p.wantsBytes(packed+"@s2", s.want["s2"])
	p.wantsNothingLeft()
}

// TestNamespaces restores into one, and lists them.
func TestNamespaces(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.Start(t)
	s := exports(t, c, 8<<20)
	c.Rbd("namespace", "create", "rbd/blue")
	p := inCeph(t, c, empty(t))
	name := c.Name("vm")
	must(t, "cp", s.file("s1.diff"), p.m.Import("rbd", "blue", name))
	if got := c.Rbd("export", "--no-progress", "rbd/blue/"+name+"@s1", "-"); got != string(s.want["s1"]) {
		t.Error("bytes differ")
	}
	if p.has(name) {
		t.Error("it is in the default namespace as well")
	}
	entries, err := os.ReadDir(p.m.Import("rbd"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "blue" {
		t.Errorf("import/rbd holds %v, %v", entries, err)
	}
	refused(t, "No such file", "cp", s.file("s1.diff"), p.m.Import("nopool", name))
}

// TestLayout: format 2 brings object size, features, striping and metadata; the
// flag wins.
func TestLayout(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.Start(t)
	source := "rbd/" + c.Name("source")
	c.Rbd("create", "--size", "8M", "--object-size", "1M", "--stripe-unit", "64K", "--stripe-count", "4",
		"--image-feature", "layering,exclusive-lock", source)
	c.Rbd("image-meta", "set", source, "owner", "somebody")
	c.Rbd("snap", "create", "--no-progress", source+"@s1")
	c.Rbd("snap", "protect", source+"@s1")
	file := filepath.Join(t.TempDir(), "export")
	c.Rbd("export", "--no-progress", "--export-format", "2", source, file)
	p := inCeph(t, c, empty(t))
	name := c.Name("vm")
	must(t, "cp", file, p.path(name))
	info := c.Rbd("info", "rbd/"+name)
	for _, want := range []string{"order 20 ", "stripe unit: 64 KiB", "stripe count: 4", "features: layering, striping, exclusive-lock\n"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
	if got := strings.TrimSpace(c.Rbd("image-meta", "get", "rbd/"+name, "owner")); got != "somebody" {
		t.Errorf("owner is %q", got)
	}
	if got := c.Rbd("snap", "ls", "rbd/"+name); !strings.Contains(got, "yes") {
		t.Errorf("s1 isn't protected:\n%s", got)
	}
	p.m.Stop()
	p = inCeph(t, c, empty(t), "--image-features", "layering")
	other := c.Name("other")
	must(t, "cp", file, p.path(other))
	if info := c.Rbd("info", "rbd/"+other); !strings.Contains(info, "features: layering, striping\n") {
		t.Errorf("features of\n%s", info)
	}
}
