package chain

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/property"
)

// drawReused draws an image whose script makes one snapshot anew each week, under the
// same name, exports it, and then exports increments from it: from one to the next, or
// each from it.
func drawReused(t *rapid.T) *guessRepo {
	g := newGuessRepo(t)
	word := rapid.SampledFrom([]string{"last", "dummy", "backup", "latest", "weekly-backup", "Last", "rbd_sync"}).Draw(t, "word")
	n := naming{
		dir:  rapid.SampledFrom([][]string{{"img"}, {"img", "date"}, {"date"}, {"kind", "img"}, {"img", "year", "month", "day"}}).Draw(t, "dir"),
		base: rapid.SampledFrom([][]string{{"img", "date"}, {"img", "to", "date"}, {"kind", "date"}, {"to", "date"}, {"date"}}).Draw(t, "base"),
		sep:  "-", ext: rapid.SampledFrom([]string{".diff", "", ".raw"}).Draw(t, "ext"),
	}
	raw := rapid.Bool().Draw(t, "raw")
	fan := rapid.Bool().Draw(t, "fan")
	how := rapid.SampledFrom([]string{"daily", "shuffled", "minute", "far"}).Draw(t, "mtimes")
	size := 512 * 4
	day := 1
	for range rapid.IntRange(1, 3).Draw(t, "weeks") {
		state := g.bytes(size)
		from := word
		g.put(n.name(&guessFile{image: "vm1", to: word}, day, g.count), &guessFile{
			image: "vm1", to: word, raw: raw, want: slices.Clone(state), mtime: g.mtime(how, day),
		})
		for i := range rapid.IntRange(0, 3).Draw(t, "increments") {
			day++
			f := &guessFile{image: "vm1", from: from, to: fmt.Sprintf("2024-05-%02d", day), off: 64 * i, data: g.bytes(32), mtime: g.mtime(how, day)}
			base := state
			if fan {
				base = slices.Clone(state)
			}
			copy(base[f.off:], f.data)
			f.want = slices.Clone(base)
			g.put(n.name(f, day, g.count), f)
			if !fan {
				from = f.to
			}
		}
		day += 2
	}
	return g
}

// TestReusedNamesArentMixed: what is exported from a snapshot that was made anew under
// its old name is served on none of that name, unless the user trusts them.
func TestReusedNamesArentMixed(t *testing.T) {
	gr := newGuesser(t)
	served := 0
	property.Often(t, 10, func(t *rapid.T) {
		g := drawReused(t)
		g.harm()
		l := gr.library(t, Options{})
		learn(l, g.files, slices.Sorted(maps.Keys(g.files)), false)
		served += checkBytes(t, plans(l, g.files), g.files)
	})
	if served == 0 {
		t.Error("nothing is served: the test is blind")
	}
}
