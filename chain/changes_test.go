package chain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rbdbackupfs/index"
	"rbdbackupfs/rbddiff"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	tib = int64(1) << 40
)

func data(off, length int64) Change { return Change{off, length, true} }
func zero(off, length int64) Change { return Change{off, length, false} }

// changesWriter makes the folder of one more image below dir.
func changesWriter(t *testing.T, dir, name string, seed uint64) *chainWriter {
	t.Helper()
	w := &chainWriter{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), folder: filepath.Join(dir, name), states: map[string][]byte{},
	}
	if err := os.MkdirAll(w.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

// export writes the step to a snapshot with these records, and keeps no state.
func (w *chainWriter) export(from, to string, size int64, records ...Change) {
	w.t.Helper()
	var out bytes.Buffer
	d, err := rbddiff.NewWriter(&out, rbddiff.DiffV1)
	err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.DiffStart, Count: 1}))
	if from != "" {
		err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.From, Name: from}))
	}
	err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.To, Name: to}),
		d.WriteRecord(rbddiff.Record{Kind: rbddiff.Size, Size: size}))
	for _, r := range records {
		rec := rbddiff.Record{Kind: rbddiff.Zero, Offset: r.Off, Length: r.Len}
		if r.Data {
			rec.Kind = rbddiff.Data
		}
		err = errors.Join(err, d.WriteRecord(rec))
		if r.Data {
			_, werr := d.Write(bytes.Repeat([]byte{byte(w.rng.UintN(255) + 1)}, int(r.Len)))
			err = errors.Join(err, werr)
		}
	}
	err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.End}), d.Close())
	if err != nil {
		w.t.Fatal(err)
	}
	w.file(cmp.Or(from, "full")+".."+to+".diff", out.Bytes())
}

// viewsOf opens all snapshots of an image; that of "" is nil.
func viewsOf(t *testing.T, l *Library, name string) map[string]*View {
	t.Helper()
	img, err := l.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	views := map[string]*View{"": nil}
	for _, s := range img.Snapshots {
		if views[s.Name], err = l.OpenView(s); err != nil {
			t.Fatal(err)
		}
	}
	return views
}

// changesOf lists the changes, which must be sorted and joined, in [off, size).
func changesOf(t rapid.TB, v, from *View, off int64) (list []Change) {
	t.Helper()
	err := v.Changes(context.Background(), from, off, func(c Change) error {
		end := off
		if n := len(list); n > 0 {
			end = list[n-1].End()
			if c.Off == end && c.Data == list[n-1].Data {
				t.Fatalf("%v isn't joined with %v", c, list[n-1])
			}
		}
		if c.Off < end || c.Len <= 0 || c.End() > v.Size() {
			t.Fatalf("%v after %v, from %d", c, list, off)
		}
		list = append(list, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestChanges(t *testing.T) {
	dir := t.TempDir()
	w := changesWriter(t, dir, "vm", 0)
	w.export("", "a", 8*mib, data(0, 64*kib), data(4*mib-4*kib, 8*kib), data(6*mib, mib))
	w.export("a", "shrunk", 5*mib)
	w.export("shrunk", "regrown", 8*mib, data(7*mib, 4*kib))
	w.export("a", "written", 8*mib,
		data(0, 4*kib), zero(16*kib, 4*kib), data(100*kib, 50*kib), data(120*kib, 10*kib), zero(140*kib, 4*kib))
	w.export("written", "grown", 16*mib)
	w.export("grown", "zeroed", 16*mib, zero(0, 16*mib))
	w.export("a", "other", 6*mib, data(0, 4*kib), data(6*mib-100, 100))
	views := viewsOf(t, run(t, dir, index.Memory), "vm")
	for _, test := range []struct {
		name, from, to string
		off            int64
		want           []Change
	}{
		{"all data", "", "a", 0, []Change{data(0, 64*kib), data(4*mib-4*kib, 8*kib), data(6*mib, mib)}},
		{"all data of a smaller one", "", "shrunk", 0, []Change{data(0, 64*kib), data(4*mib-4*kib, 8*kib)}},
		{"no data", "", "zeroed", 0, nil},
		{"itself", "a", "a", 0, nil},
		{"cut off", "a", "shrunk", 0, nil},
		{"cut off, backwards", "shrunk", "a", 0, []Change{data(6*mib, mib)}},
		{"cut off and grown again", "a", "regrown", 0, []Change{zero(6*mib, mib), data(7*mib, 4*kib)}},
		{"cut off and grown again, backwards", "regrown", "a", 0, []Change{data(6*mib, mib), zero(7*mib, 4*kib)}},
		{"records that overlap", "a", "written", 0, []Change{
			data(0, 4*kib), zero(16*kib, 4*kib), data(100*kib, 40*kib), data(144*kib, 6*kib),
		}},
		{"undone", "written", "a", 0, []Change{
			data(0, 4*kib), data(16*kib, 4*kib), zero(100*kib, 40*kib), zero(144*kib, 6*kib),
		}},
		{"grown", "written", "grown", 0, nil},
		{"all zeroed", "a", "zeroed", 0, []Change{zero(0, 64*kib), zero(4*mib-4*kib, 8*kib), zero(6*mib, mib)}},
		{"siblings", "written", "other", 0, []Change{
			data(0, 4*kib), data(16*kib, 4*kib), zero(100*kib, 40*kib), zero(144*kib, 6*kib), data(6*mib-100, 100),
		}},
		{"from inside", "a", "written", 2 * kib, []Change{
			data(2*kib, 2*kib), zero(16*kib, 4*kib), data(100*kib, 40*kib), data(144*kib, 6*kib),
		}},
		{"from the next chunk", "", "a", 4 * mib, []Change{data(4*mib, 4*kib), data(6*mib, mib)}},
		{"from the end", "", "a", 8 * mib, nil},
		{"from past the end", "regrown", "a", 1<<63 - 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := changesOf(t, views[test.to], views[test.from], test.off); !slices.Equal(got, test.want) {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
		})
	}
}

// TestChangesErrors: it ends at once when visit or the context says so, and
// refuses what can't be compared.
func TestChangesErrors(t *testing.T) {
	dir := t.TempDir()
	w := changesWriter(t, dir, "vm", 0)
	w.export("", "a", 64*mib, data(0, 4*kib), data(8*kib, 4*kib), data(16*mib, 4*kib), data(32*mib, 4*kib))
	views := viewsOf(t, run(t, dir, index.Memory), "vm")
	other := viewsOf(t, run(t, dir, index.Memory), "vm")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	visits := 0
	broken := errors.New("broken")
	for _, test := range []struct {
		name   string
		from   *View
		off    int64
		visit  func(Change) error
		want   error
		visits int
	}{
		{"visit", nil, 0, func(Change) error { return broken }, broken, 1},
		{"last visit", nil, 20 * mib, func(Change) error { return broken }, broken, 1},
		{"other library", other["a"], 0, nil, ErrNotFound, 0},
		{"offset", nil, -1, nil, ErrNotFound, 0},
		{"canceled in visit", nil, 0, func(Change) error { cancel(); return nil }, context.Canceled, 1},
		{"canceled", nil, 0, nil, context.Canceled, 0},
		{"canceled, itself", views["a"], 0, nil, context.Canceled, 0},
	} {
		visits = 0
		err := views["a"].Changes(ctx, test.from, test.off, func(c Change) error {
			visits++
			return test.visit(c)
		})
		if !errors.Is(err, test.want) || visits != test.visits {
			t.Errorf("%s: %v after %d visits, want %v after %d", test.name, err, visits, test.want, test.visits)
		}
	}
}

// TestChangesSparse: the work follows the data, not the size. That many pieces
// of 4 KiB lie in as many chunks as 100 MiB in whole ones.
func TestChangesSparse(t *testing.T) {
	const size, pieces = 15 * tib, 25
	var full, half []Change
	for i := range int64(pieces) {
		c := data(i*size/pieces, 4*kib)
		full = append(full, c)
		if i%2 == 0 {
			c.Data = i%4 == 0
			half = append(half, c)
		}
	}
	dir := t.TempDir()
	w := changesWriter(t, dir, "vm", 0)
	w.export("", "a", size, append([]Change{zero(0, size)}, full...)...)
	w.export("a", "b", size, half...)
	l := run(t, dir, index.Memory)
	views := viewsOf(t, l, "vm")
	for _, test := range []struct {
		from, to string
		off      int64
		want     []Change
	}{
		{"", "a", 0, full},
		{"a", "b", 0, half},
		{"a", "b", 1, append([]Change{data(1, 4*kib-1)}, half[1:]...)},
	} {
		before := l.ix.Lookups()
		if got := changesOf(t, views[test.to], views[test.from], test.off); !slices.Equal(got, test.want) {
			t.Errorf("%s to %s: got %v, want %v", test.from, test.to, got, test.want)
		}
		// One for each view and chunk.
		if n := l.ix.Lookups() - before; n > 2*pieces+2 {
			t.Errorf("%s to %s: %d lookups for %d pieces of data", test.from, test.to, n, pieces)
		} else {
			t.Logf("%s to %s: %d lookups", test.from, test.to, n)
		}
	}
}

func TestSamePlace(t *testing.T) {
	base := index.Segment{Off: 100, Len: 50, Pos: 1000, Source: 3}
	for _, test := range []struct {
		other index.Segment
		want  bool
	}{
		{base, true},
		{index.Segment{Off: 90, Len: 20, Pos: 990, Source: 3}, true},
		{index.Segment{Off: 100, Len: 50, Pos: 1001, Source: 3}, false},
		{index.Segment{Off: 90, Len: 20, Pos: 1000, Source: 3}, false},
		{index.Segment{Off: 100, Len: 50, Pos: 1000, Source: 4}, false},
		{index.Segment{Off: 100, Len: 50}, false},
	} {
		if samePlace(base, test.other) != test.want || samePlace(test.other, base) != test.want {
			t.Errorf("%v and %v: want %v", base, test.other, test.want)
		}
	}
	if !samePlace(index.Segment{Len: 5}, index.Segment{Off: 3, Len: 5}) {
		t.Error("two holes differ")
	}
}

// TestChangesApply: the changes between any two snapshots of random chains,
// applied to the bytes of the one, give those of the other.
func TestChangesApply(t *testing.T) {
	dir := t.TempDir()
	images := map[string]*chainWriter{}
	for seed := range uint64(30) {
		name := fmt.Sprintf("vm%d", seed)
		w := changesWriter(t, dir, name, seed)
		images[name] = w
		w.diff("", "s0")
		for i := range 3 + w.rng.IntN(9) {
			w.diff(w.names[max(0, len(w.names)-1-w.rng.IntN(3)*w.rng.IntN(4))], fmt.Sprintf("s%d", i+1))
		}
	}
	l := run(t, dir, index.Memory)
	views := map[string]map[string]*View{}
	for name := range images {
		views[name] = viewsOf(t, l, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := fmt.Sprintf("vm%d", rapid.IntRange(0, len(images)-1).Draw(t, "image"))
		w := images[name]
		from := rapid.SampledFrom(append([]string{""}, w.names...)).Draw(t, "from")
		to := rapid.SampledFrom(w.names).Draw(t, "to")
		v, want := views[name][to], w.states[to]
		if v == nil || v.Size() != int64(len(want)) {
			t.Fatalf("%s@%s isn't served", name, to)
		}
		off := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, v.Size()+10)).Draw(t, "off")
		got := make([]byte, len(want))
		copy(got, w.states[from])
		for _, c := range changesOf(t, v, views[name][from], off) {
			p := got[c.Off:c.End()]
			if !c.Data {
				clear(p)
			} else if n, err := v.ReadAt(context.Background(), p, c.Off); n != len(p) {
				t.Fatalf("%v: %d bytes, %v", c, n, err)
			}
		}
		off = min(off, v.Size())
		if !bytes.Equal(got[off:], want[off:]) {
			t.Fatalf("%s from %q to %s isn't what was applied, from byte %d on", name, from, to, off)
		}
	})
}

// A tagged is an image in cells, the parts between two cuts. Cells of one tag
// are from one place; 0 is a hole.
type tagged struct {
	view *View
	size int64
	tags []int
}

// changeCuts has the sides of chunks and of what is compared at once, a comb
// that makes a chunk split, and chunks without anything.
func changeCuts() []int64 {
	cuts := []int64{0, 1, 100, 64 * kib, mib, 5 * mib, 12*mib + 7, 40 * mib, 48 * mib}
	for _, side := range []int64{changeStep, 2 * changeStep, 4 * mib, 8 * mib, 16 * mib, 20 * mib} {
		cuts = append(cuts, side-1, side, side+1)
	}
	for i := range int64(100) {
		cuts = append(cuts, 9*mib+i*16)
	}
	slices.Sort(cuts)
	return cuts
}

// TestChangesExact: in random trees of nodes exactly those cells are reported
// that aren't from the same place.
func TestChangesExact(t *testing.T) {
	ix, err := index.Open(index.Memory, index.Options{CacheSegments: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	}()
	l := &Library{ix: ix}
	cuts := changeCuts()
	steps := 0
	rapid.Check(t, func(t *rapid.T) {
		var nodes []tagged
		for range rapid.IntRange(1, 6).Draw(t, "nodes") {
			steps++
			nodes = append(nodes, drawTagged(t, l, cuts, nodes, steps))
		}
		off := rapid.SampledFrom(append(cuts, 0)).Draw(t, "off")
		for _, to := range nodes {
			for _, from := range append(nodes, tagged{tags: make([]int, len(cuts))}) {
				want := cellChanges(cuts, to, from, off)
				if got := changesOf(t, to.view, from.view, off); !slices.Equal(got, want) {
					t.Fatalf("got  %v\nwant %v", got, want)
				}
			}
		}
	})
}

// drawTagged builds one more node, on any other or on none.
func drawTagged(t *rapid.T, l *Library, cuts []int64, nodes []tagged, step int) tagged {
	cut := rapid.IntRange(0, len(cuts)-1)
	n := tagged{size: cuts[len(cuts)-1], tags: make([]int, len(cuts))}
	var parent *index.Node
	if p := rapid.IntRange(-1, len(nodes)-1).Draw(t, "parent"); p >= 0 {
		parent = nodes[p].view.n
		n.size, n.tags = nodes[p].size, slices.Clone(nodes[p].tags)
	}
	if rapid.IntRange(0, 2).Draw(t, "resize") == 0 {
		n.size = cuts[cut.Draw(t, "size")]
	}
	for i, at := range cuts {
		if at >= n.size {
			n.tags[i] = 0
		}
	}
	var id index.NodeID
	binary.BigEndian.PutUint64(id[:], uint64(step))
	b, err := l.ix.Begin(id, parent, n.size)
	if err != nil {
		t.Fatal(err)
	}
	pos := int64(0)
	for e := range rapid.IntRange(0, 6).Draw(t, "extents") {
		i, j := cut.Draw(t, "start"), cut.Draw(t, "end")
		if i > j {
			i, j = j, i
		}
		stride := rapid.IntRange(1, 2).Draw(t, "stride") // 2: every other cell
		isData := rapid.Bool().Draw(t, "data")
		for ; i < j && cuts[i+1] <= n.size; i += stride {
			x := index.Extent{Off: cuts[i], Len: cuts[i+1] - cuts[i], Data: isData}
			n.tags[i] = 0
			if isData {
				x.Pos = pos
				pos += x.Len
				n.tags[i] = (step*10+e)*len(cuts) + i + 1
			}
			if err := b.Add(x); err != nil {
				t.Fatal(err)
			}
		}
	}
	node, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	n.view = l.view(node)
	return n
}

// cellChanges is what Changes has to say, told from the cells.
func cellChanges(cuts []int64, to, from tagged, off int64) (list []Change) {
	for i := 0; i+1 < len(cuts) && cuts[i] < to.size; i++ {
		if cuts[i] < off || to.tags[i] == from.tags[i] {
			continue
		}
		c := Change{cuts[i], cuts[i+1] - cuts[i], to.tags[i] != 0}
		if n := len(list); n > 0 && list[n-1].End() == c.Off && list[n-1].Data == c.Data {
			list[n-1].Len += c.Len
		} else {
			list = append(list, c)
		}
	}
	return list
}
