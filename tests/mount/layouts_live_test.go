package mount

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/scenario"
)

// A nightly backup script, as people write them: where it puts the export of day i.
type script struct {
	name     string
	snapshot func(i int) string
	path     func(image string, i int) string
	image    func(image string) string // in the tree
	raw      bool                      // the first export
}

func scripts() []script {
	date := func(i int) string { return fmt.Sprintf("202405%02d", i+1) }
	folder := func(i int) string { return fmt.Sprintf("2024-05-%02d", i+1) }
	stamp := func(i int) string { return date(i) + "020000" }
	same := func(image string) string { return image }
	return []script{
		{"cron", folder, func(img string, i int) string { return img + "@" + folder(i) + ".diff" }, same, false},
		{"cron-days", folder, func(img string, i int) string { return folder(i) + "/" + img + []string{".raw", ".diff", ".diff"}[i] }, same, true},
		{"proxmox", func(i int) string { return "snap-" + date(i) }, func(img string, i int) string { return img + "@snap-" + date(i) }, same, false},
		{
			"nebula", func(i int) string { return fmt.Sprintf("one_backup_%d", i) },
			func(img string, i int) string {
				disk := strings.Replace(img, "vm-100-disk-", "13/disk.", 1)
				return disk + []string{".rbd2", ".1.rbdiff", ".2.rbdiff"}[i]
			},
			func(img string) string { return strings.Replace(img, "vm-100-disk-", "13/disk.", 1) }, false,
		},
		{
			"cv4pve", func(i int) string { return "barcdaily" + stamp(i) },
			func(img string, i int) string { return "100/daily/" + stamp(i) + "rbd." + img + ".diff" },
			func(img string) string { return "rbd/" + img }, false,
		},
	}
}

// TestLiveLayouts runs such scripts against a cluster, for two images at a time, and
// compares each snapshot with what rbd export gives. Then it kills an export.
func TestLiveLayouts(t *testing.T) {
	testenv.Need(t, "ceph", "fuse")
	c := cluster.StartOwn(t)
	repo := t.TempDir()
	b := scenario.NewBuilder(t.Context(), c.Conf, t.TempDir(), "made", scenario.Small())
	var want []scenario.Expect
	for k := range 2 {
		image := fmt.Sprintf("vm-100-disk-%d", k)
		img := b.Create("rbd/"+image, image, 8<<20)
		for day := range 3 {
			img.Scatter(20)
			img.Fill(int64(day)<<20, 70_000)
			var names []string
			for _, s := range scripts() {
				names = append(names, s.snapshot(day))
			}
			slices.Sort(names)
			img.Snap(slices.Compact(names)...)
			img.Expect(names[0])
		}
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		// The snapshots of one day are of the same moment.
		truth := b.Expects()[3*k:]
		for _, s := range scripts() {
			s.run(t, c, filepath.Join(repo, s.name), image)
			for i, e := range truth {
				e.Image, e.Snapshot = filepath.Join(s.name, s.image(image)), s.snapshot(i)
				want = append(want, e)
			}
		}
	}
	m := Start(t, repo)
	checkListing(t, m, byImage(want))
	checkSums(t, m, want)
	m.Stop()
	killedExport(t, c)
}

// run makes the exports of an image.
func (s script) run(t *testing.T, c *cluster.Cluster, repo, image string) {
	t.Helper()
	for i := range 3 {
		spec := "rbd/" + image + "@" + s.snapshot(i)
		path := filepath.Join(repo, s.path(image, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 0 && s.raw:
			c.Rbd("export", "--no-progress", spec, path)
		case i == 0:
			c.Rbd("export-diff", "--no-progress", spec, path)
		default:
			c.Rbd("export-diff", "--no-progress", "--from-snap", s.snapshot(i-1), spec, path)
		}
	}
}

// killedExport kills a raw export once it has written something. What it leaves is
// smaller than the increment on it says.
func killedExport(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	const big = 1 << 30
	c.Rbd("create", "--size", fmt.Sprint(big, "B"), "rbd/big")
	c.Rbd("snap", "create", "--no-progress", "rbd/big@2024-05-01")
	block := bytes.Repeat([]byte("big"), 1<<20)
	cmd := c.Command(t.Context(), "rbd", "import-diff", "--no-progress", "-", "rbd/big")
	cmd.Stdin = bytes.NewReader(compiled(t, fmt.Sprintf("diff1 s %d w 0~%d w 512M~%d e", big, len(block), len(block))))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Rbd("snap", "create", "--no-progress", "rbd/big@2024-05-02")
	c.Rbd("snap", "create", "--no-progress", "rbd/big@2024-05-03")
	repo := t.TempDir()
	killOnWrite(t, c, filepath.Join(repo, "big", "2024-05-02.raw"), "rbd/big@2024-05-02")
	inc := filepath.Join(repo, "big", "2024-05-03.diff")
	c.Rbd("export-diff", "--no-progress", "--from-snap", "2024-05-02", "rbd/big@2024-05-03", inc)
	for to, from := range map[string]string{
		"flat-2024-05-02.raw": filepath.Join(repo, "big", "2024-05-02.raw"), "flat-2024-05-03.diff": inc,
	} {
		command(t, "cp", "--preserve=timestamps", from, filepath.Join(repo, to))
	}
	l, _ := List(t, repo, "--index", ":memory:")
	for _, file := range []string{"big/2024-05-02.raw", "flat-2024-05-02.raw"} {
		info, err := os.Stat(filepath.Join(repo, file))
		if err != nil || info.Size() == 0 || info.Size() >= big {
			t.Fatalf("the killed export left %v, %v", info, err)
		}
		if !slices.ContainsFunc(l.Problems, func(p Problem) bool { return p.Kind == "suspicious" && p.File == file }) {
			t.Errorf("nothing is said of the killed export: %v", l.Problems)
		}
	}
	for _, img := range l.Images {
		for _, s := range img.Snapshots {
			if s.Trust != "suspicious" {
				t.Errorf("%s@%s is %s", img.Name, s.Label, s.Trust)
			}
		}
	}
}

// killOnWrite starts an export and kills it with its first write.
func killOnWrite(t *testing.T, c *cluster.Cluster, path, spec string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = watch.Close() }()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	cmd := c.Command(t.Context(), "rbd", "--rbd-concurrent-management-ops", "1", "export", "--no-progress", spec, path)
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Read(make([]byte, 4096)); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the export was done before it was killed")
	}
}
