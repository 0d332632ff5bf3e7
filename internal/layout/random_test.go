package layout

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/property"
)

// A named file is one whose image is known.
type named struct {
	Known
	image string
}

// drawImages draws images whose names differ in more than what rules may take away.
func drawImages(t *rapid.T) []string {
	part := rapid.SampledFrom([]string{"vm", "web", "db", "disk", "prod", "x1", "7", "12", "100", "snapper", "mysql", "Fulla"})
	sep := rapid.SampledFrom([]string{"-", "_", "."})
	image := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(part, 1, 3).Draw(t, "parts")
		name := "v" + parts[0] // never only a number
		for _, p := range parts[1:] {
			name += sep.Draw(t, "sep") + p
		}
		return name
	})
	return rapid.SliceOfNDistinct(image, 2, 3, strings.ToLower).Draw(t, "images")
}

var randomNames = [][]string{
	{"s10", "s11", "s12"}, {"2024-05-01", "2024-05-02", "2024-05-03"}, {"20240501", "20240502", "20240503"}, {"0101", "0102", "0103"},
	{"snap-20240501", "snap-20240502", "snap-20240503"}, {"mon", "tue", "wed"}, {"daily_1", "daily_2", "daily_3"}, {"1", "2", "3"},
	{"2024-05-01T02:00:00", "2024-05-02T02:00:00", "2024-05-03T02:00:00"}, {"one", "two", "three"},
}

// drawFiles draws the exports of some images under names that follow one habit.
func drawFiles(t *rapid.T, r *Rules) (files []named) {
	dir := rapid.SampledFrom([]string{
		"", "IMG", "DATE", "KIND", "TO", "IMG/DATE", "IMG/TO", "DATE/IMG", "KIND/IMG", "IMG/KIND", "2024/05/DAY", "pool", "pool/IMG", "backup-DATE", "pool/TO",
	}).Draw(t, "dir")
	parts := rapid.Permutation([]string{"IMG", "KIND", "FROM", "TO", "DATE", "backup"}).Draw(t, "parts")
	parts = parts[:rapid.IntRange(1, len(parts)).Draw(t, "length")]
	if !strings.Contains(dir, "IMG") && !slices.Contains(parts, "IMG") {
		parts = append(parts, "IMG")
	}
	base := strings.Join(parts, rapid.SampledFrom([]string{"-", "_", ".", "--", "__"}).Draw(t, "separator"))
	ending := rapid.SampledFrom([]string{"", ".diff", ".rbd", ".diff.zst", ".bin.gz", ".INC"}).Draw(t, "ending")
	names := rapid.SampledFrom(randomNames).Draw(t, "names")
	raw := rapid.Bool().Draw(t, "raw")
	for _, image := range drawImages(t) {
		from := ""
		for i, to := range names {
			kind := "inc"
			if i == 0 {
				kind = "full"
			}
			day := fmt.Sprintf("%02d", i+1)
			fill := strings.NewReplacer("IMG", image, "DATE", "2024-05-"+day, "DAY", day, "KIND", kind, "FROM", from, "TO", to)
			f := File{Path: path.Join(fill.Replace(dir), fill.Replace(base)+ending), Read: true}
			switch {
			case i == 0 && raw:
				f.Bare = true
			default:
				f.To = []string{to}
			}
			if i > 0 {
				f.From = []string{from}
			}
			files = append(files, named{r.Know(f), image})
			from = to
		}
	}
	return files
}

// grouped puts files into their groups.
func grouped(files []named) map[string]*Group {
	groups := map[string]*Group{}
	for _, f := range files {
		key := f.Group()
		if groups[key] == nil {
			groups[key] = &Group{}
		}
		groups[key].Add(f.Known)
	}
	return groups
}

// TestImagesStayApart names the exports of several images after any habit: two that
// say where they end are of one image only if they are, whatever else lies there.
func TestImagesStayApart(t *testing.T) {
	r, err := New(Config{Root: "nas"})
	if err != nil {
		t.Fatal(err)
	}
	together, pairs := 0, 0
	property.Often(t, 5, func(t *rapid.T) {
		files := drawFiles(t, r)
		groups := grouped(files)
		places := make([]Place, len(files))
		for i, f := range files {
			places[i] = r.Place(f.Known, groups[f.Group()])
		}
		for i, f := range files {
			for j, o := range files[:i] {
				switch {
				case f.Bare || o.Bare:
				case f.image != o.image && places[i].Image == places[j].Image:
					t.Fatalf("%s of %s and %s of %s are both of %s", f.Path, f.image, o.Path, o.image, places[i].Image)
				case f.image == o.image:
					pairs++
					if places[i].Image == places[j].Image {
						together++
					}
				}
			}
		}
	})
	t.Logf("%d of %d pairs of one image's files are together", together, pairs)
	if together*3 < pairs {
		t.Errorf("only %d of %d pairs of one image's files are together", together, pairs)
	}
}

// TestPlacesDependOnTheGroup: where a file belongs depends on the files of its group,
// not on the order in which they came, on those that went, or on those of others.
func TestPlacesDependOnTheGroup(t *testing.T) {
	r, err := New(Config{Root: "nas"})
	if err != nil {
		t.Fatal(err)
	}
	property.Often(t, 5, func(t *rapid.T) {
		files := drawFiles(t, r)
		others := drawFiles(t, r)
		inGroup := grouped(files)
		mixed := rapid.Permutation(slices.Concat(files, others)).Draw(t, "order")
		changed := map[string]*Group{}
		for _, f := range mixed {
			key := f.Group()
			if changed[key] == nil {
				changed[key] = &Group{}
			}
			changed[key].Add(f.Known)
		}
		for _, o := range rapid.Permutation(others).Draw(t, "gone") {
			changed[o.Group()].Remove(o.Known)
		}
		for _, f := range files {
			key := f.Group()
			want := r.Place(f.Known, inGroup[key])
			for range 5 { // maps have another order each time
				if got := r.Place(f.Known, changed[key]); got != want {
					t.Fatalf("%s: %+v, and after changes %+v", f.Path, want, got)
				}
			}
			alone := slices.DeleteFunc(slices.Clone(files), func(o named) bool { return o.Group() != key })
			if got := r.Place(f.Known, grouped(alone)[key]); got != want {
				t.Fatalf("%s: %+v, and without other groups %+v", f.Path, want, got)
			}
		}
	})
}
