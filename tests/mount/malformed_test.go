package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/tests/malformed"
	"rbdbackupfs/tests/model"
)

// goodImage is an image of the committed exports that lies beside the bad ones.
const goodImage = "increments"

// TestMalformed mounts a repository with one folder for each way in which backup
// files can be broken, and a good image among them. The good one is served as
// ever; each bad file is named, with the place and the cure.
func TestMalformed(t *testing.T) {
	cases, err := malformed.Cases()
	if err != nil {
		t.Fatal(err)
	}
	repo := t.TempDir()
	for _, c := range cases {
		if err := c.Write(repo); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(testdata, "conformance", "repo", goodImage)
	if err := os.CopyFS(filepath.Join(repo, goodImage), os.DirFS(good)); err != nil {
		t.Fatal(err)
	}
	// Without a mount first: ls has to say the same.
	alone, code := List(t, append([]string{repo, "--index", filepath.Join(t.TempDir(), "index")}, plain...)...)
	if code != 3 {
		t.Errorf("ls of the repository ends with %d, want 3", code)
	}
	m := Start(t, repo, Options{Flags: plain, Expected: []string{""}}) // whatever it logs about the files
	listing, code := List(t, m.Dir)
	if code != 3 {
		t.Errorf("ls of the mount ends with %d, want 3", code)
	}
	if a, b := problemLines(alone), problemLines(listing); !slices.Equal(a, b) {
		t.Errorf("ls without a mount says\n%s\nand with one\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	checkGood(t, m)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			checkProblems(t, c, listing)
			checkServed(t, m, c, listing)
		})
	}
}

// plain is for repositories in which each folder is a case, whatever the files in it
// are called.
var plain = []string{"--layout", "plain"}

func problemLines(l Listing) []string {
	var lines []string
	for _, p := range l.Problems {
		lines = append(lines, fmt.Sprintf("%s %s %s %d", p.Kind, p.File, p.Snapshot, p.Offset))
	}
	slices.Sort(lines)
	return lines
}

func checkGood(t *testing.T, m *Mount) {
	t.Helper()
	n := 0
	for _, e := range readSums(t, "conformance") {
		if e.Image == goodImage {
			n++
			CheckSum(t, m.Image(e.Image, e.Snapshot), e.SHA256, e.Size)
		}
	}
	if n == 0 {
		t.Errorf("no sums of %s", goodImage)
	}
}

// checkProblems compares what is said about a case with what has to be.
func checkProblems(t *testing.T, c malformed.Case, listing Listing) {
	t.Helper()
	var said []Problem
	for _, p := range listing.Problems {
		if p.Image == c.Name || strings.HasPrefix(p.File, c.Name+"/") {
			said = append(said, p)
		}
	}
	for _, want := range c.Problems {
		i := slices.IndexFunc(said, func(p Problem) bool {
			return p.File == c.Name+"/"+want.File && slices.Contains(want.Kinds, p.Kind) &&
				(want.Offset < 0 || p.Offset == want.Offset) && p.Serving == want.Serving
		})
		if i < 0 {
			t.Errorf("want %+v, got %+v", want, said)
			continue
		}
		if said[i].Reason == "" || said[i].Cure == "" {
			t.Errorf("no reason or no cure: %+v", said[i])
		}
	}
	for _, p := range said {
		if !slices.ContainsFunc(c.Problems, func(want malformed.Problem) bool { return p.File == c.Name+"/"+want.File }) {
			t.Errorf("reported though it is fine: %+v", p)
		}
	}
}

// checkServed compares the snapshots of a case with what its good files say.
func checkServed(t *testing.T, m *Mount, c malformed.Case, listing Listing) {
	t.Helper()
	var good []string
	for _, f := range c.Files {
		if !slices.Contains(c.Unused, f.Name) {
			good = append(good, filepath.Join(m.Repo, c.Name, f.Name))
		}
	}
	want, err := model.LoadFiles(good...)
	if err != nil {
		t.Fatal(err)
	}
	served := make(map[string]bool)
	for _, img := range listing.Images {
		if img.Name != c.Name {
			continue
		}
		for _, s := range img.Snapshots {
			served[s.Bytes()] = true
			if state := stateOf(t, m, c, s, want); state == nil {
				t.Errorf("%s is served", s.Label)
			} else {
				CheckImage(t, filepath.Join(m.Dir, s.Path), state)
			}
		}
	}
	for name := range want {
		if !served[name] {
			t.Errorf("%s isn't served", name)
		}
	}
}

// stateOf finds what a served snapshot must hold, nil when it may not be served.
func stateOf(t *testing.T, m *Mount, c malformed.Case, s Snapshot, want map[string]*model.State) *model.State {
	t.Helper()
	if state := want[s.Bytes()]; state != nil {
		return state
	}
	// Of several files that claim a snapshot each full one is served by itself.
	file, several := strings.CutPrefix(s.Label, s.Name+"~")
	if !several {
		if !c.Partial {
			return nil
		}
		file = c.Files[0].Name
	}
	states, err := model.LoadPart(filepath.Join(m.Repo, c.Name, file))
	if err != nil {
		t.Fatal(err)
	}
	return states[s.Name]
}
