package mount

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
)

// browseRepo is a repository with a partitioned disk and a plain one, both in use when
// they were backed up.
func browseRepo(t *testing.T) (repo string, files map[string][]byte) {
	t.Helper()
	repo = t.TempDir()
	fs := dirtyFilesystems()[0]
	plain := filepath.Join(repo, "plain", "monday.raw")
	files = fs.backup(t, plain)
	disk := filepath.Join(repo, "disk", "monday.raw")
	place(t, disk, nil)
	command(t, "truncate", "-s", "400M", disk)
	command(t, "sh", "-c", fmt.Sprintf("printf 'label: gpt\\n,320M,,,\\n,8M\\n,32M\\n,\\n' | sfdisk -q %s", disk))
	command(t, "dd", "if="+plain, "of="+disk, "bs=1M", "seek=1", "conv=notrunc", "status=none")
	swap := filepath.Join(t.TempDir(), "swap")
	command(t, "truncate", "-s", "8M", swap)
	command(t, "mkswap", "-q", swap)
	command(t, "dd", "if="+swap, "of="+disk, "bs=1M", "seek=321", "conv=notrunc", "status=none")
	return repo, files
}

func checkFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s isn't what was synced: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err == nil {
		t.Error("it can be written to")
	}
}

// TestBrowse gets files back from a repository that nobody has mounted, and from one
// that is; umount undoes all.
func TestBrowse(t *testing.T) {
	testenv.Need(t, "root", "fuse", "loop", "ext4", "program:sfdisk", "program:blkid", "program:losetup")
	repo, files := browseRepo(t)
	before := fileStates(t, repo)
	index := filepath.Join(t.TempDir(), "index")
	first, second := t.TempDir(), t.TempDir()
	browse := func(args ...string) Result {
		t.Helper()
		return Run(t, append([]string{"browse", "--index", index}, args...)...)
	}
	r := browse(repo, "disk@monday", first)
	if want := "disk@monday, partition 1 (ext4, 320 MiB), is at " + first + ", read-only; to end that: umount " + first + "\n"; r.Code != 0 || r.Stdout != want {
		t.Fatalf("%v", r)
	}
	checkFiles(t, first, files)
	refused := []struct {
		args []string
		says string
	}{
		{[]string{repo, "disk", second}, "is in use already, and two file systems on it would destroy what they write. End that first\n  /dev/loop"},
		{[]string{repo, "disk@tuesday", second}, "there is no disk@tuesday in " + repo},
		{[]string{"--partition", "2", repo, "disk", second}, "disk@monday has no file system in partition 2 (swap, 8.0 MiB)"},
		{[]string{"--partition", "3", repo, "disk", second}, "has no file system in partition 3 (nothing known, 32 MiB)"},
		{[]string{"--partition", "9", repo, "disk", second}, "has no partition 9; there are\n  partition 1 (ext4, 320 MiB)\n  partition 2 (swap, 8.0 MiB)\n"},
		{[]string{repo, "disk", filepath.Join(second, "none")}, "doesn't exist; make it with: mkdir -p "},
	}
	for _, c := range refused {
		if r := browse(c.args...); r.Code != 1 || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("%v\nwant %q", r, c.says)
		}
	}
	if r := browse(repo, "plain", second); r.Code != 0 || !strings.HasPrefix(r.Stdout, "plain@monday, the whole disk (ext4, 320 MiB), is at ") {
		t.Fatalf("%v", r)
	}
	checkFiles(t, second, files)
	command(t, "umount", second)
	checkFiles(t, first, files)
	command(t, "umount", first)
	awaitFree(t, index)
	if left, err := filepath.Glob(filepath.Join(index, "scratch", "*.*")); len(left) > 0 || err != nil {
		t.Errorf("left: %q, %v", left, err)
	}
	assertSame(t, before, fileStates(t, repo))
	t.Run("at-once", func(t *testing.T) {
		done := make(chan Result)
		for image, dir := range map[string]string{"disk": first, "plain": second} {
			go func() { done <- browse(repo, image, dir) }()
		}
		for range 2 {
			if r := <-done; r.Code != 0 {
				t.Errorf("%v", r)
			}
		}
		for _, dir := range []string{first, second} {
			checkFiles(t, dir, files)
			command(t, "umount", dir)
		}
		awaitFree(t, index)
	})
	t.Run("mounted", func(t *testing.T) {
		m := Start(t, repo)
		dir := t.TempDir()
		if r := Run(t, "browse", m.Dir, "plain@monday", dir); r.Code != 0 {
			t.Fatalf("%v", r)
		}
		checkFiles(t, dir, files)
		if r := Run(t, "umount", m.Dir); r.Code == 0 || !strings.Contains(r.Stderr, "mounted at "+dir) {
			t.Errorf("umount of what is browsed: %v", r)
		}
		command(t, "umount", dir)
		if r := Run(t, "browse", "--index", m.Index, repo, "plain", dir); r.Code != 0 {
			t.Fatalf("by the repository's name: %v", r)
		}
		checkFiles(t, dir, files)
		command(t, "umount", dir)
	})
	t.Run("no-scratch", func(t *testing.T) {
		m := Start(t, repo, Options{Flags: []string{"--no-scratch"}})
		if r := Run(t, "browse", m.Dir, "plain@monday", first); r.Code != 1 || !strings.Contains(r.Stderr, "has no scratch/; mount it anew without --no-scratch") {
			t.Errorf("%v", r)
		}
	})
}

// TestBrowseSeveral lists the partitions where it can't know which is meant.
func TestBrowseSeveral(t *testing.T) {
	testenv.Need(t, "root", "fuse", "loop", "ext4", "program:sfdisk", "program:blkid")
	repo := t.TempDir()
	disk := filepath.Join(repo, "disk", "monday.raw")
	place(t, disk, nil)
	command(t, "truncate", "-s", "64M", disk)
	command(t, "sh", "-c", fmt.Sprintf("printf 'label: dos\\n1: size=20M\\n2: size=20M,type=5\\n5: size=10M\\n' | sfdisk -q %s", disk))
	part := filepath.Join(t.TempDir(), "part")
	for i, seek := range []string{"1", "22"} {
		command(t, "truncate", "-s", "8M", part)
		command(t, "mkfs.ext4", "-q", "-L", fmt.Sprint("label", i), part)
		command(t, "dd", "if="+part, "of="+disk, "bs=1M", "seek="+seek, "conv=notrunc", "status=none")
	}
	dir := t.TempDir()
	r := Run(t, "browse", "--index", filepath.Join(t.TempDir(), "index"), repo, "disk", dir)
	if r.Code != 1 || !strings.Contains(r.Stderr, "has several file systems; name one with --partition N\n  partition 1 (ext4, 20 MiB, \"label0\")\n") ||
		!strings.Contains(r.Stderr, "\n  partition 5 (ext4, ") {
		t.Errorf("%v", r)
	}
}

// awaitFree waits until the process that has an index has ended.
func awaitFree(t *testing.T, index string) {
	t.Helper()
	lock, err := os.Open(filepath.Join(index, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(lock.Fd()), unix.LOCK_SH) }()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(exitLimit):
		t.Fatalf("%s isn't free", index)
	}
}
