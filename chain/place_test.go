package chain

import (
	"testing"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// TestLinkByBase: a base name speaks for one file. When there are two, it is said of
// neither, and both are looked at again.
func TestLinkByBase(t *testing.T) {
	r, err := repo.Open(t.TempDir(), repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ix, err := index.Open(index.Memory, index.Options{Repo: r.Root()})
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	l, err := Open(Options{Repo: r, Index: ix, Links: map[string]string{"s1.diff": "s1"}})
	if err != nil {
		t.Fatal(err)
	}
	see := func(path string, kind repo.Kind) {
		l.apply([]repo.Change{{Kind: kind, File: repo.File{Path: path, Pin: repo.Pin{Inode: 1}, State: repo.Settled}}})
	}
	check := func(want string, changed bool) {
		t.Helper()
		l.mu.Lock()
		defer l.mu.Unlock()
		f := l.files["a/s1.diff"]
		if got := l.linkOf(f.path).snapshot; got != want || f.changed != changed {
			t.Errorf("--link says %q, changed %v; want %q, %v", got, f.changed, want, changed)
		}
		f.changed = false
		if ambiguous := len(l.strayLinks()) > 0; ambiguous != (want == "") {
			t.Errorf("said to be ambiguous: %v", ambiguous)
		}
	}
	see("a/s1.diff", repo.Added)
	check("s1", true)
	see("b/s2.diff", repo.Added)
	check("s1", false)
	see("b/s1.diff", repo.Added)
	check("", true)
	see("b/s1.diff", repo.Gone)
	check("s1", true)
}
