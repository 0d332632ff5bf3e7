package chain

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/property"
	"rbdbackupfs/repo"
)

// A guesser places and plans as a Library does, without reading files: a repository
// takes microseconds.
type guesser struct {
	repo *repo.Repo
	ix   *index.Index
}

func newGuesser(t *testing.T) *guesser {
	t.Helper()
	r, err := repo.Open(t.TempDir(), repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ix, err := index.Open(index.Memory, index.Options{Repo: r.Root()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ix.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return &guesser{r, ix}
}

// library is one that knows which folders there are, and no file.
func (gr *guesser) library(t *rapid.T, o Options) *Library {
	rules, err := layout.New(layout.Config{Root: "nas"})
	if err != nil {
		t.Fatal(err)
	}
	o.Repo, o.Index, o.Layout = gr.repo, gr.ix, rules
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l.held = false
	return l
}

// state is a file as the Library has it once it is read.
func (f *guessFile) state(name string) *fileState {
	s := stepInfo{From: f.from, HasFrom: f.from != "", To: f.to, HasTo: !f.raw && !f.head, HasSize: true, Size: int64(len(f.want)), Bytes: int64(len(f.data))}
	if !s.HasTo {
		s.To = ""
	}
	info := &fileInfo{Kind: kindDiff, Format: "diff", Steps: []stepInfo{s}}
	if f.raw {
		info.Kind, info.Format, info.Raw = kindRaw, "raw", rawAny
	}
	inode := uint64(1)
	for _, c := range []byte(name) {
		inode = inode*1099511628211 + uint64(c)
	}
	pin := repo.Pin{Inode: inode, Size: s.Size, MTimeNs: f.mtime.UnixNano()}
	info.Pin = pin
	return &fileState{path: name, pin: pin, read: pin, state: repo.Settled, info: info}
}

// learn has the library see files in this order: first that they are there, then
// what is in them.
func learn(l *Library, files map[string]*guessFile, order []string, seen bool) {
	for _, name := range order {
		f := files[name].state(name)
		if seen {
			info := f.info
			f.info = nil
			l.placeFile(f)
			f.info = info
		}
		l.files[name] = f
		l.placeFile(f)
		l.placeGroups()
	}
}

// plans are those of all images. What has to be compared is, by the bytes.
func plans(l *Library, files map[string]*guessFile) map[string]*plan {
	all := map[string]*plan{}
	for name, img := range l.images {
		if len(img.files) > 0 {
			all[name] = makePlan(name, l.planFiles(img), planRules{
				infer: l.layout.Guesses(), trust: l.trust, elsewhere: l.elsewhere,
				verdict: func(c comparison) verdict {
					if bytes.Equal(bytesOf(c.a, files), bytesOf(c.b, files)) {
						return same
					}
					return different
				},
			})
		}
	}
	return all
}

// bytesOf is what a planned snapshot reads as.
func bytesOf(n *planNode, files map[string]*guessFile) []byte {
	if n == nil {
		return nil
	}
	return files[n.step.file.path].apply(bytesOf(n.parent, files))
}

// checkBytes fails for a snapshot that isn't what its last file was made from, and
// counts the others.
func checkBytes(t *rapid.T, all map[string]*plan, files map[string]*guessFile) (served int) {
	for image, p := range all {
		for _, n := range p.nodes {
			served++
			if bytes.Equal(bytesOf(n, files), files[n.step.file.path].want) {
				continue
			}
			way := ""
			for at := n; at != nil; at = at.parent {
				way = " -> " + at.step.file.path + way
			}
			t.Fatalf("%s@%s has wrong bytes, by %s\n%s", image, n.label(), way, show(files))
		}
	}
	return served
}

func show(files map[string]*guessFile) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&out, "  %s: %v\n", name, files[name])
	}
	return out.String()
}

// showPlans says where everything is, for comparisons.
func showPlans(all map[string]*plan) string {
	var out strings.Builder
	for _, image := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "%s\n", image)
		var lines []string
		for _, n := range all[image].nodes {
			lines = append(lines, fmt.Sprintf("  %s by %s, %s, %s\n", n.label(), n.step.file.path, n.step.known, n.trustOf()))
		}
		for _, pr := range all[image].problems {
			lines = append(lines, "  "+pr.String()+"\n")
		}
		slices.Sort(lines)
		out.WriteString(strings.Join(lines, ""))
	}
	return out.String()
}

// TestGuessesAreRight makes repositories of images with the same snapshots, named
// in any way, takes files out and moves some: every snapshot that is served has the
// bytes that the image had when its last file was made.
func TestGuessesAreRight(t *testing.T) {
	gr := newGuesser(t)
	served, made := 0, 0
	property.Often(t, 10, func(t *rapid.T) {
		g := drawGuessRepo(t)
		g.harm()
		l := gr.library(t, Options{})
		learn(l, g.files, slices.Sorted(maps.Keys(g.files)), false)
		made += len(g.files)
		served += checkBytes(t, plans(l, g.files), g.files)
	})
	t.Logf("%d of %d files are served", served, made)
	if served*3 < made {
		t.Errorf("only %d of %d files are served: the test is nearly blind", served, made)
	}
}

// TestGuessesFollowChanges lets files come in any order, and others go again: what
// is served in between is right, and what is left is what another run makes of the
// same files at once.
func TestGuessesFollowChanges(t *testing.T) {
	gr := newGuesser(t)
	property.Often(t, 10, func(t *rapid.T) {
		g := drawGuessRepo(t)
		l := gr.library(t, Options{})
		order := rapid.Permutation(slices.Sorted(maps.Keys(g.files))).Draw(t, "order")
		for _, name := range order {
			learn(l, g.files, []string{name}, rapid.Bool().Draw(t, "seen"))
			checkBytes(t, plans(l, g.files), g.files)
		}
		for _, name := range order {
			if rapid.Bool().Draw(t, "gone") {
				f := l.files[name]
				delete(l.files, name)
				l.leaveGroup(f)
				l.leaveImage(f)
				l.placeGroups()
				delete(g.files, name)
			}
		}
		got := plans(l, g.files)
		checkBytes(t, got, g.files)
		fresh := gr.library(t, Options{})
		learn(fresh, g.files, rapid.Permutation(slices.Sorted(maps.Keys(g.files))).Draw(t, "other order"), false)
		if a, b := showPlans(got), showPlans(plans(fresh, g.files)); a != b {
			t.Fatalf("after changes:\n%sat once:\n%s%s", a, b, show(g.files))
		}
	})
}
