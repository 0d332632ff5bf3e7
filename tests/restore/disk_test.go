package restore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// TestDisk restores a disk with a file system by its own exports, the full one and
// the difference on it, and mounts what comes back.
func TestDisk(t *testing.T) {
	testenv.Need(t, "loop", "root", "ext4")
	repo := filepath.Join(testdata, "demo", "repo")
	both(t, repo, func(t *testing.T, p *place) {
		image := p.name("testbacknew")
		folder := filepath.Join(repo, "rbd", "testimg-copy")
		if p.c != nil {
			p.c.Rbd("create", "--size", "1M", image) // as rbd import-diff needs it
		}
		must(t, "cp", filepath.Join(folder, "for-clone2.diff"), p.path(image))
		p.wantsFiles(image, "111", "222", "lost+found", "test", "test1")
		must(t, "cp", filepath.Join(folder, "for-clone2..v2.diff"), p.path(image))
		p.wantsFiles(image, "111", "222", "aaa.txt", "boy", "lost+found", "test", "test1")
		if p.c == nil {
			return
		}
		if got := snapshots(t, p.c, image); len(got) != 2 || !got["for-clone2"] || !got["v2"] {
			t.Errorf("snapshots %v", got)
		}
		if info := p.c.Rbd("info", "rbd/"+image); !strings.Contains(info, "size 16 MiB") {
			t.Errorf("%s", info)
		}
	})
}

// wantsFiles mounts a restored disk, and compares the names in its root folder.
func (p *place) wantsFiles(image string, want ...string) {
	p.t.Helper()
	disk, dir := filepath.Join(p.t.TempDir(), "disk"), p.t.TempDir()
	if err := os.WriteFile(disk, p.bytes(image), 0o600); err != nil {
		p.t.Fatal(err)
	}
	must(p.t, "e2fsck", "-fn", disk)
	must(p.t, "mount", "-o", "loop,ro", disk, dir)
	defer must(p.t, "umount", dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("%s has %q, want %q", image, got, want)
	}
}
