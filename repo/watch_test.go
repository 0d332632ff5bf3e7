package repo

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestFirstBatchIsTheTree(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "b/new.diff", "x")
	put(t, dir, "b/old.diff", "y")
	put(t, dir, "a.partial", "z")
	must(t, os.Symlink("b", filepath.Join(dir, "link")))
	oldPin := pinNow(t, filepath.Join(dir, "b/old.diff"))

	w, first := watchTree(t, dir, Options{}, func(path string, pin Pin) bool {
		return path == "b/old.diff" && pin == oldPin
	})
	want := []string{
		"added a.partial hidden", "added b/new.diff unsettled", "added b/old.diff settled", "added link hidden",
	}
	if got := words(first); !slices.Equal(got, want) {
		t.Errorf("first batch: %v, want %v", got, want)
	}
	for _, c := range first {
		if !c.Initial {
			t.Errorf("%s is not Initial", c.File.Path)
		}
		if c.File.State != Settled && c.File.Why == "" {
			t.Errorf("%s: no Why", c.File.Path)
		}
	}
	second := w.next()
	if got := words(second); !slices.Equal(got, []string{"changed b/new.diff settled"}) || second[0].Initial {
		t.Errorf("second batch: %v", second)
	}
	if second[0].File.Pin != pinNow(t, filepath.Join(dir, "b/new.diff")) || second[0].File.Why != "" {
		t.Errorf("%+v", second[0].File)
	}
}

func TestFirstBatchOfEmptyTree(t *testing.T) {
	dir := t.TempDir()
	w, first := watchTree(t, dir, Options{}, nothingKnown)
	if len(first) != 0 {
		t.Errorf("first batch: %v", first)
	}
	put(t, dir, "a", "x")
	w.settles("a")
}

func TestWatchSeesFiles(t *testing.T) {
	dir := t.TempDir()
	w, _ := watchTree(t, dir, Options{}, nothingKnown)

	put(t, dir, "new", "x")
	w.settles("new")
	put(t, dir, "new", "xyz")
	w.want("changed new unsettled", "changed new settled")
	must(t, os.WriteFile(filepath.Join(dir, ".tmp1"), []byte("abc"), 0o644))
	w.want("added .tmp1 hidden")
	must(t, os.Rename(filepath.Join(dir, ".tmp1"), filepath.Join(dir, "new")))
	w.want("gone .tmp1 hidden", "changed new unsettled", "changed new settled")
	must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "other")))
	w.want("gone new settled", "added other unsettled", "changed other settled")
	must(t, os.Remove(filepath.Join(dir, "other")))
	w.want("gone other settled")
	must(t, os.Symlink("x", filepath.Join(dir, "l")))
	w.want("added l hidden")
}

func TestKnownFilesSettleAtOnce(t *testing.T) {
	dir, from := t.TempDir(), t.TempDir()
	put(t, from, "a", "x")
	known := pinNow(t, filepath.Join(from, "a"))
	w, _ := watchTree(t, dir, Options{}, func(_ string, pin Pin) bool { return pin == known })
	must(t, os.Rename(filepath.Join(from, "a"), filepath.Join(dir, "b")))
	w.want("added b settled")
}

func TestWatchSeesFolders(t *testing.T) {
	dir := t.TempDir()
	w, _ := watchTree(t, dir, Options{}, nothingKnown)

	put(t, dir, "p/q/r/a", "x") // the folders below p can't be watched when they are made
	w.settles("p/q/r/a")
	put(t, dir, "p/q/r/b", "x")
	w.settles("p/q/r/b")

	// What happens in a renamed folder comes under its new name.
	must(t, os.Rename(filepath.Join(dir, "p"), filepath.Join(dir, "s")))
	w.want("gone p/q/r/a settled", "gone p/q/r/b settled", "added s/q/r/a unsettled", "added s/q/r/b unsettled",
		"changed s/q/r/a settled", "changed s/q/r/b settled")
	put(t, dir, "s/q/r/c", "x")
	w.settles("s/q/r/c")

	// A folder takes the place of another one.
	must(t, os.Rename(filepath.Join(dir, "s/q"), filepath.Join(dir, "old")))
	put(t, dir, "s/q/r/d", "x")
	w.want("gone s/q/r/a settled", "gone s/q/r/b settled", "gone s/q/r/c settled",
		"added old/r/a unsettled", "added old/r/b unsettled", "added old/r/c unsettled",
		"changed old/r/a settled", "changed old/r/b settled", "changed old/r/c settled",
		"added s/q/r/d unsettled", "changed s/q/r/d settled")
	put(t, dir, "old/r/e", "x")
	w.settles("old/r/e")

	must(t, os.RemoveAll(filepath.Join(dir, "old")))
	w.want("gone old/r/a settled", "gone old/r/b settled", "gone old/r/c settled", "gone old/r/e settled")
}

func TestFileAndFolderTakeEachOthersName(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x", "file")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed x settled")
	must(t, os.Remove(filepath.Join(dir, "x")))
	put(t, dir, "x/y", "in a folder")
	w.want("gone x settled", "added x/y unsettled", "changed x/y settled")
	must(t, os.RemoveAll(filepath.Join(dir, "x")))
	put(t, dir, "x", "file")
	w.want("added x unsettled", "changed x settled", "gone x/y settled")
}

// The rescan finds what inotify doesn't tell of.
func TestRescan(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "d/a", "x")
	put(t, dir, "d/b", "x")
	w, _ := watchTree(t, dir, Options{Rescan: time.Hour}, nothingKnown)
	w.want("changed d/a settled", "changed d/b settled")
	must(t, w.notify.watcher.Close())
	put(t, dir, "d/a", "longer")
	put(t, dir, "e/f/c", "x")
	must(t, os.Remove(filepath.Join(dir, "d/b")))
	w.patient = time.Hour
	w.want("changed d/a unsettled", "gone d/b settled", "added e/f/c unsettled",
		"changed d/a settled", "changed e/f/c settled")
}

// When the kernel's queue overflows, everything is looked at again.
func TestLostEvents(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "d/a", "x")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed d/a settled")
	for _, rel := range []string{".", "d"} {
		w.notify.unwatch(rel)
	}
	put(t, dir, "d/b", "x")
	w.notify.lose()
	w.settles("d/b")
	put(t, dir, "d/c", "x") // and is being watched again
	w.settles("d/c")
}

// A process that may have just two watches.
func TestInotifyLimit(t *testing.T) {
	const where = "REPO_TEST_DIR"
	dir := os.Getenv(where)
	if dir == "" {
		dir = t.TempDir()
		put(t, dir, "a/x", "x")
		put(t, dir, "b/x", "x")
		put(t, dir, "c/x", "x")
	}
	own := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	group := []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	newUser := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: own, GidMappings: group}
	if !asOther(t, newUser, where+"="+dir) {
		return
	}
	must(t, os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("2"), 0))
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed a/x settled", "changed b/x settled", "changed c/x settled")
	for _, rel := range []string{"a/y", "b/y", "c/y"} {
		put(t, dir, rel, "x")
	}
	w.patient = rescanFast
	got := w.changes(6)
	for _, rel := range []string{"a/y", "b/y", "c/y"} {
		if !slices.Contains(got, "changed "+rel+" settled") {
			t.Errorf("%s is missing in %q", rel, got)
		}
	}
	put(t, dir, "a/z", "z")
	put(t, dir, "b/z", "z")
	put(t, dir, "c/z", "z")
	w.changes(6)
	if n := w.log.count("inotify is at its limit"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

func TestUnreadableFolderKeepsItsFiles(t *testing.T) {
	const where = "REPO_TEST_DIR"
	dir := os.Getenv(where)
	if dir == "" {
		dir = t.TempDir()
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		put(t, dir, "d/a", "x")
		put(t, dir, "b", "x")
	}
	if os.Geteuid() == 0 {
		for _, path := range []string{dir, dir + "/d", dir + "/d/a", dir + "/b"} {
			must(t, os.Chown(path, 65534, 65534))
		}
		nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if !asOther(t, nobody, where+"="+dir) {
			return
		}
	}
	must(t, os.Chmod(filepath.Join(dir, "b"), 0o200))
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed b unreadable", "changed d/a settled")
	must(t, os.Chmod(filepath.Join(dir, "b"), 0o600))
	w.want("changed b settled")
	must(t, os.Chmod(filepath.Join(dir, "d"), 0))
	w.want("added d unreadable")
	must(t, os.Chmod(filepath.Join(dir, "d"), 0o700))
	w.want("gone d unreadable")
	put(t, dir, "d/a", "longer")
	w.want("changed d/a unsettled", "changed d/a settled")
}

// Files that are gone must not keep their space on the disk.
func TestDescriptorsOfGoneFilesAreClosed(t *testing.T) {
	dir := t.TempDir()
	for _, rel := range []string{"deleted", "replaced", "kept"} {
		put(t, dir, rel, "x")
	}
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed deleted settled", "changed kept settled", "changed replaced settled")
	inUse := openFile(t, w.repo, "deleted")
	openFile(t, w.repo, "replaced").Release()
	openFile(t, w.repo, "kept").Release()
	must(t, os.Remove(filepath.Join(dir, "deleted")))
	put(t, dir, ".new", "xy")
	must(t, os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "replaced")))
	w.changes(3)
	want := []string{filepath.Join(dir, "deleted") + " (deleted)", filepath.Join(dir, "kept")}
	if got := slices.Sorted(slices.Values(openDescriptors(t, dir))); !slices.Equal(got, want) {
		t.Errorf("open: %q, want %q", got, want)
	}
	inUse.Release()
	if got := openDescriptors(t, dir); !slices.Equal(got, want[1:]) {
		t.Errorf("open after Release: %q, want %q", got, want[1:])
	}
}
