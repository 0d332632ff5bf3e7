package mount

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/internal/treename"
	"rbdbackupfs/tests/scenario"
)

// withheld checks that a snapshot isn't served, and that ls says why in these words;
// it returns the line.
func withheld(t *testing.T, repo, what string, words ...string) string {
	t.Helper()
	l, _ := List(t, repo, "--index", ":memory:")
	if slices.Contains(served(l), what) {
		t.Errorf("%s is served", what)
	}
	line := cureOf(t, repo, what)
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("%q doesn't say %q", line, w)
		}
	}
	return line
}

// cured mounts with flags and checks that these are served, and nothing else.
func cured(t *testing.T, repo string, flags []string, want []scenario.Expect) {
	t.Helper()
	m := Start(t, repo, Options{Flags: flags})
	defer m.Stop()
	l, _ := List(t, m.Dir)
	if got := served(l); !slices.Equal(got, labels(want)) {
		t.Errorf("with %q: served %v, want %v", flags, got, labels(want))
	}
	checkSums(t, m, want)
}

// TestReusedName gives week 1's full export of `last`, and week 2's increment from
// the `last` that was made anew. The real rbd import-diff takes that and makes wrong
// bytes of it.
func TestReusedName(t *testing.T) {
	testenv.Need(t, "fuse")
	week1 := newSeries(t, "no-object-map", "last", "mon")
	week2 := newSeries(t, "objects-64k", "last", "mon")
	repo := t.TempDir()
	tree{"vm1/last.diff": week1.full(0), "vm1/mon.diff": week2.diff(1)}.write(t, repo, "vm1/last.diff", "vm1/mon.diff")
	line := withheld(t, repo, "vm1@mon", "last", "used again", "vm1/last.diff", "--link", "--trust-names")
	l, code := List(t, repo, "--index", ":memory:")
	if code != 3 || len(l.Problems) != 1 || l.Problems[0].Kind != "suspicious" {
		t.Errorf("ls ends with %d: %v", code, l.Problems)
	}
	cured(t, repo, nil, []scenario.Expect{week1.expect(0, "vm1", "last")})
	// Of the right week both cures are right.
	write(t, filepath.Join(repo, "vm1", "last.diff"), week2.full(0))
	for _, flags := range [][]string{typed(t, line), {"--trust-names"}} {
		cured(t, repo, flags, week2.all("vm1"))
	}
}

// TestConstantName makes a full export each day, of a snapshot that has always the
// same name: each is served as what it is, and no increment is put on any of them
// before the user says which.
func TestConstantName(t *testing.T) {
	testenv.Need(t, "fuse")
	repo, files := t.TempDir(), tree{}
	var all []constant
	var flags, order []string
	for _, c := range []constant{
		{"folders/vm1", "dummy", func(i int) string { return "folders/vm1/" + days[i] + "/full.diff" }, "folders/vm1/extra.diff"},
		{"files/vm1", "backup", func(i int) string { return "files/vm1/" + days[i] + ".diff" }, "files/vm1/extra.diff"},
		{"flat/vm1", "last", func(i int) string { return "flat/vm1-" + days[i] + ".diff" }, "flat/vm1-extra.diff"},
		{"dummy/vm1", "dummy", func(i int) string { return "dummy/vm1/dummy-" + days[i] + ".diff" }, "dummy/vm1/extra.diff"},
	} {
		s := newSeries(t, "no-object-map", c.word, c.word, c.word)
		for i := range days {
			files[c.path(i)] = s.full(i)
			order = append(order, c.path(i))
		}
		// The increment is from the second day's.
		files[c.extra] = withNames(t, s.diff(2), c.word, "extra")
		flags = append(flags, "--link", c.path(1)+"="+c.word)
		all = append(all, c)
	}
	files.write(t, repo, order...)
	before, _ := List(t, repo, "--index", ":memory:")
	text := complaints(t, repo)
	for _, c := range all {
		if got, want := servedOf(before, c.image), c.labels(-1); !slices.Equal(got, want) {
			t.Errorf("served: %v, want %v", got, want)
		}
		if line := lineOf(t, text, c.image+"@extra"); !strings.Contains(line, c.word) || len(typed(t, line)) != 2 {
			t.Errorf("no cure: %s", line)
		}
	}
	m := Start(t, repo, Options{Flags: flags})
	after, _ := List(t, m.Dir)
	for _, c := range all {
		s := newSeries(t, "no-object-map", c.word, c.word, c.word)
		want := []scenario.Expect{s.expect(2, c.image, "extra")}
		for i, label := range c.labels(1) {
			_, label, _ = strings.Cut(label, "@")
			want = append(want, s.expect(i, c.image, label))
		}
		if got := servedOf(after, c.image); !slices.Equal(got, sorted(labels(want))) {
			t.Errorf("with --link: served %v, want %v", got, labels(want))
		}
		for _, e := range want {
			CheckSum(t, filepath.Join(m.Folder(e.Image), treename.ImageFile(cutLabel(e.Snapshot))), e.SHA256, e.Size)
		}
	}
}

// A constant is an image of which each full export is of a snapshot with the same
// name.
type constant struct {
	image, word string
	path        func(i int) string
	extra       string // an increment on one of them
}

// labels are what its full exports are served as, where one has been chosen.
func (c constant) labels(chosen int) (list []string) {
	for i := range days {
		label := c.image + "@" + c.word
		if own := filepath.Base(c.path(i)); i != chosen {
			if own == "full.diff" { // there are several
				own = c.path(i)
			}
			label += "~" + own
		}
		list = append(list, label)
	}
	return list
}

func cutLabel(label string) (name, of string) {
	name, of, _ = strings.Cut(label, "~")
	return name, of
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func servedOf(l Listing, image string) []string {
	return slices.DeleteFunc(served(l), func(s string) bool { return !strings.HasPrefix(s, image+"@") })
}

// TestFullNewerThanIncrement: where names have no date, a full export that is newer
// than what builds on it may be of another snapshot of that name. Dates in names, and
// times that are almost the same, are no such hint.
func TestFullNewerThanIncrement(t *testing.T) {
	testenv.Need(t, "fuse")
	monday := time.Date(2024, 5, 6, 2, 0, 0, 0, time.UTC)
	repo := t.TempDir()
	var good, bad []scenario.Expect
	for image, tt := range map[string]struct {
		names []string
		later time.Duration
	}{
		"newer": {shortDays[:2], 2 * time.Hour}, "together": {shortDays[:2], 30 * time.Second}, "older": {shortDays[:2], -2 * time.Hour},
		"dated": {days[:2], 2 * time.Hour}, "snap": {[]string{"snap-20240501", "snap-20240502"}, 48 * time.Hour},
	} {
		s := newSeries(t, "objects-64k", tt.names...)
		full, inc := image+"/"+tt.names[0]+".diff", image+"/"+tt.names[1]+".diff"
		tree{full: s.diff(0), inc: s.diff(1)}.write(t, repo)
		setTime(t, filepath.Join(repo, inc), monday)
		setTime(t, filepath.Join(repo, full), monday.Add(tt.later))
		good = append(good, s.all(image)...)
	}
	bad = slices.DeleteFunc(slices.Clone(good), func(e scenario.Expect) bool { return e.Image == "newer" && e.Snapshot == shortDays[1] })
	line := withheld(t, repo, "newer@"+shortDays[1], "newer/"+shortDays[0]+".diff", "which ends there, is newer")
	cured(t, repo, nil, bad)
	cured(t, repo, typed(t, line), good)
	cured(t, repo, []string{"--trust-names"}, good)
}

// TestKilledExport cuts a raw export off where a killed rbd leaves it: after whole
// objects. Increments on it, or another export of the image, tell.
func TestKilledExport(t *testing.T) {
	testenv.Need(t, "fuse")
	s := newSeries(t, "no-object-map", days...)
	cut := s.raw(0)[:len(s.raw(0))/2]
	repo := t.TempDir()
	tree{
		"vm1/" + days[0] + ".raw": cut, "vm1/" + days[1] + ".diff": s.diff(1),
		"vm2/" + days[0] + ".raw": s.raw(0), "vm2/" + days[2] + ".raw": s.raw(2)[:512<<10],
		"vm3/" + days[0] + ".raw": s.raw(0), "vm3/" + days[1] + ".diff": s.diff(1),
	}.write(t, repo)
	l, _ := List(t, repo, "--index", ":memory:")
	suspicious := map[string]string{}
	for _, p := range l.Problems {
		if p.Kind == "suspicious" && strings.Contains(p.Reason, "killed") {
			suspicious[p.Image+"@"+p.Snapshot] = p.Cure
		}
	}
	if len(suspicious) != 3 || suspicious["vm1@"+days[0]] == "" || suspicious["vm1@"+days[1]] == "" || suspicious["vm2@"+days[2]] == "" {
		t.Errorf("these are suspicious: %v", suspicious)
	}
	for _, img := range l.Images {
		if img.Name == "vm2" && img.Latest != days[0] {
			t.Errorf("the latest of vm2 is %s, which was cut off", img.Latest)
		}
		for _, snap := range img.Snapshots {
			want := "verified"
			switch {
			case img.Name == "vm1" && snap.Label != days[0]:
				t.Errorf("%s@%s is served on what may have been cut off", img.Name, snap.Label)
			case suspicious[img.Name+"@"+snap.Label] != "":
				want = "suspicious"
			case snap.Depth > 1:
				want = "by name"
			}
			if snap.Trust != want {
				t.Errorf("%s@%s is %q, want %q", img.Name, snap.Label, snap.Trust, want)
			}
		}
	}
}
