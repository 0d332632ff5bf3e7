package repo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is named is there whatever its name, and nothing else.
func TestOnlyWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"top", "a/.hidden/x.tmp", "a/.hidden/y", "a/b", "lost+found/f", "z/never"} {
		put(t, dir, path, path)
	}
	must(t, os.Symlink("top", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	only := []string{"top", "a/.hidden/x.tmp", "lost+found/f", "link", "folder", "gone/f"}
	files, problems, err := open(t, dir, Options{Only: only}).List(t.Context())
	must(t, err)
	var got []string
	for _, f := range files {
		got = append(got, f.State.String()+" "+f.Path)
	}
	want := []string{"seen a/.hidden/x.tmp", "hidden link", "seen lost+found/f", "seen top"}
	if diff := cmp.Diff(want, got); diff != "" || len(problems) > 0 {
		t.Errorf("%s %v", diff, problems)
	}
}

func TestWatchOfOnlyWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a/.x.tmp", "x")
	put(t, dir, "a/y", "y")
	w, first := watchTree(t, dir, Options{Only: []string{"a/.x.tmp", "b/z.part"}}, nothingKnown)
	if got := words(first); !slices.Equal(got, []string{"added a/.x.tmp unsettled"}) {
		t.Errorf("%v", got)
	}
	w.want("changed a/.x.tmp settled")
	put(t, dir, "a/y", "other")
	put(t, dir, "a/new", "x")
	put(t, dir, "b/z.part", "x")
	w.settles("b/z.part")
	must(t, os.Remove(filepath.Join(dir, "a/.x.tmp")))
	w.want("gone a/.x.tmp settled")
}

// A folder that may be passed but not listed is enough.
func TestOnlyNeedsNoListing(t *testing.T) {
	const where = "REPO_TEST_DIR"
	dir := os.Getenv(where)
	if dir == "" {
		dir = t.TempDir()
		must(t, os.Chmod(dir, 0o755))
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		put(t, dir, "shut/a", "x")
		must(t, os.Chmod(filepath.Join(dir, "shut"), 0o111))
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "shut"), 0o755) })
	}
	if os.Geteuid() == 0 {
		nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if !asOther(t, nobody, where+"="+dir) {
			return
		}
	}
	files, problems, err := open(t, dir, Options{Only: []string{"shut/a"}}).List(t.Context())
	must(t, err)
	if len(files) != 1 || files[0].State != Seen || len(problems) > 0 {
		t.Errorf("%v, %v", files, problems)
	}
}

func TestOnlyBelowTheFolder(t *testing.T) {
	for _, path := range []string{"", "/etc/passwd", "../x", "a/./b"} {
		if r, err := Open(t.TempDir(), Options{Only: []string{path}}); err == nil || !strings.Contains(err.Error(), "no path below") {
			t.Errorf("%q: %v, %v", path, r, err)
		}
	}
}
