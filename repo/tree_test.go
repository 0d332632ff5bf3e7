package repo

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func fileAt(name string, size int64, at instant) fileLook {
	return fileLook{name: name, pin: Pin{Inode: 1, Size: size}, at: at}
}

// A look at a folder takes a while. Names that were looked at meanwhile are as
// they were seen then, whatever the longer look says.
func TestLaterLookCounts(t *testing.T) {
	tr := newTree(nothingKnown)
	tr.reading = 1
	tr.takeIn(tr.root, &folderLook{began: 1, files: []fileLook{
		fileAt("deleted", 1, 1), fileAt("changed", 1, 1), fileAt("missing", 1, 1),
	}, subs: []subLook{{name: "sub"}}})
	tr.takeChanges()

	tr.takeLook(tr.root, nameLook{file: fileLook{name: "deleted", at: 3}, err: unix.ENOENT})
	tr.takeLook(tr.root, nameLook{file: fileLook{name: "sub", at: 3}, err: unix.ENOENT})
	tr.takeLook(tr.root, nameLook{file: fileAt("changed", 2, 3)})
	tr.takeLook(tr.root, nameLook{file: fileAt("created", 1, 3)})
	tr.takeLook(tr.root, nameLook{file: fileLook{name: "newsub", at: 3}, folder: true})
	got := words(tr.takeChanges())
	if want := []string{"added created unsettled", "gone deleted unsettled"}; !slices.Equal(got, want) {
		t.Errorf("changes by single looks: %q, want %q", got, want)
	}

	tr.takeIn(tr.root, &folderLook{began: 2, files: []fileLook{
		fileAt("deleted", 1, 2), fileAt("changed", 1, 2),
	}, subs: []subLook{{name: "sub"}}})
	got = words(tr.takeChanges())
	if want := []string{"gone missing unsettled"}; !slices.Equal(got, want) {
		t.Errorf("changes by the longer look: %q, want %q", got, want)
	}
	if size := tr.root.files["changed"].pin.Size; size != 2 {
		t.Errorf("changed has the size %d, want 2", size)
	}
	if tr.root.subs["newsub"] == nil || tr.root.subs["sub"] != nil {
		t.Errorf("subfolders: %v", tr.root.subs)
	}
}

func TestStatesAndKindsInWords(t *testing.T) {
	for got, want := range map[string]string{
		Seen.String(): "seen", Unreadable.String(): "unreadable", State(77).String(): "state 77",
		Gone.String(): "gone", Kind(77).String(): "kind 77",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for r := reasonDotFile; r <= reasonIO; r++ {
		if why, _ := r.words(); why == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
}

func TestFoldersTooDeep(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, strings.Repeat("d/", deepest)+"f", "x")
	put(t, dir, filepath.Join("e", strings.Repeat("d/", deepest)+"f"), "x")
	files, _, err := open(t, dir, Options{}).List(t.Context())
	must(t, err)
	if len(files) != 2 || files[0].State != Seen || files[1].State != Hidden || !strings.HasPrefix(files[1].Path, "e/d") {
		t.Errorf("files: %v", files)
	}
}
