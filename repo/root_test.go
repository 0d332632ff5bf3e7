package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
)

func TestRootVanishesAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	put(t, dir, "d/a", "x")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed d/a settled")
	pin := pinNow(t, filepath.Join(dir, "d/a"))

	must(t, os.Rename(dir, dir+".away"))
	batch := w.next()
	if got := words(batch); !slices.Equal(got, []string{"added . unreadable"}) {
		t.Fatalf("changes: %q", got)
	}
	if f := batch[0].File; !strings.Contains(f.Why, "no such file") || !strings.HasPrefix(f.Cure, "Mount ") {
		t.Errorf("%+v", f)
	}
	if _, err := w.repo.OpenFile("d/a", pin); !errors.Is(err, ErrGone) {
		t.Errorf("OpenFile: %v, want ErrGone", err)
	}
	if left := openDescriptors(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("still open: %v", left)
	}

	must(t, os.Rename(dir+".away", dir))
	w.clock.advance(2 * rootEvery)
	w.want("gone . unreadable")
	openFile(t, w.repo, "d/a").Release()
	put(t, dir, "d/b", "x")
	w.settles("d/b")
	if n := w.log.count("the repository can't be read"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

// The path leads to another folder, with another file of the same name.
func TestRootIsMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	put(t, dir, "d/a", "x")
	put(t, dir, "d/b", "x")
	put(t, dir+".new", "d/a", "other")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed d/a settled", "changed d/b settled")
	must(t, unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, dir+".new", unix.RENAME_EXCHANGE))
	w.want("changed d/a unsettled", "gone d/b settled", "changed d/a settled")
	put(t, dir, "d/c", "x")
	w.settles("d/c")
}

func TestRootIsUnmounted(t *testing.T) {
	testenv.Need(t, "root")
	dir := t.TempDir()
	mount := func() { must(t, unix.Mount("repo", dir, "tmpfs", 0, "")) }
	mount()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	put(t, dir, "d/a", "x")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.want("changed d/a settled")
	openFile(t, w.repo, "d/a").Release()

	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	w.clock.advance(2 * rootEvery)
	batch := w.next()
	if got := words(batch); !slices.Equal(got, []string{"added . unreadable"}) {
		t.Fatalf("changes: %q", got)
	}
	if why := batch[0].File.Why; !strings.Contains(why, "not mounted") {
		t.Errorf("Why: %s", why)
	}
	mount()
	put(t, dir, "d/b", "x")
	w.clock.advance(2 * rootEvery)
	w.want("gone . unreadable", "gone d/a settled", "added d/b unsettled", "changed d/b settled")
}

func TestRootIsGoneAtStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	must(t, os.Mkdir(dir, 0o755))
	r := open(t, dir, Options{})
	must(t, os.Remove(dir))
	var first []Change
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Watch(ctx, nothingKnown, func(batch []Change) { first = batch; cancel() }); err == nil {
		t.Error("Watch returned nil")
	}
	if got := words(first); !slices.Equal(got, []string{"added . unreadable"}) || !first[0].Initial {
		t.Errorf("first batch: %+v", first)
	}
}
