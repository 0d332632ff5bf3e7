package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// eachStore runs a test on both stores.
func eachStore(t *testing.T, test func(t *testing.T, open func() *Index)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		test(t, func() *Index { return mustOpen(t, Memory) })
	})
	t.Run("badger", func(t *testing.T) {
		test(t, func() *Index { return mustOpen(t, t.TempDir()) })
	})
}

func mustOpen(t testing.TB, dir string) *Index {
	t.Helper()
	ix, err := Open(dir, Options{CacheSegments: 256})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	return ix
}

func testID(n int) (id NodeID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

func build(t testing.TB, ix *Index, id int, parent *Node, size int64, extents ...Extent) *Node {
	t.Helper()
	b, err := ix.Begin(testID(id), parent, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	n, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func segments(t testing.TB, ix *Index, n *Node) []Segment {
	t.Helper()
	segs, err := ix.Map(n).Append(nil, 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	return segs
}

// A model holds for each cell between two of its cuts where the bytes come from.
type model struct {
	cuts  []int64 // cell i is [cuts[i], cuts[i+1])
	cells []Segment
	size  int64
}

func newModel(cuts []int64) *model {
	return &model{cuts: cuts, cells: make([]Segment, len(cuts)-1)}
}

func (m *model) clone() *model {
	return &model{m.cuts, slices.Clone(m.cells), m.size}
}

func (m *model) resize(size int64) {
	m.fill(size, m.cuts[len(m.cuts)-1], Segment{})
	m.size = size
}

func (m *model) fill(from, to int64, s Segment) {
	for i := range m.cells {
		if m.cuts[i] >= from && m.cuts[i+1] <= to {
			cell := s
			cell.Off, cell.Len = m.cuts[i], m.cuts[i+1]-m.cuts[i]
			if !s.Hole() {
				cell.Pos = s.Pos + m.cuts[i] - from
			}
			m.cells[i] = cell
		}
	}
}

func (m *model) segments() (list []Segment) {
	for i, c := range m.cells {
		if m.cuts[i+1] <= m.size {
			list = push(list, Segment{m.cuts[i], m.cuts[i+1] - m.cuts[i], c.Pos, c.Source})
		}
	}
	return list
}

// testCuts has places where mistakes hide: the sides of chunks of every level
// and combs that make chunks split.
func testCuts() []int64 {
	const mib = 1 << 20
	cuts := []int64{0, 1, 63, 64, 65, 1023, 1024, 16 << 10, 100_000, 256<<10 - 1, 256 << 10, mib}
	for base := int64(4 * mib); base <= 16*mib; base += 4 * mib {
		cuts = append(cuts, base-1, base, base+1, base+256<<10)
	}
	for i := range int64(90) {
		cuts = append(cuts, 4*mib+i*4096, 8*mib+300_000+i*7, 12*mib+i*32<<10)
	}
	cuts = append(cuts, 17*mib+5, 40*mib, 200*mib, 200*mib+1, 300*mib)
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

type testNode struct {
	*Node
	model *model
}

// TestRandomTrees builds random trees of nodes and compares every one, whole
// and in part, with the model: forks, deep forks, shrinks, unsorted and
// overlapping extents, long zeros, combs.
func TestRandomTrees(t *testing.T) {
	cuts := testCuts()
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		id := 0
		rapid.Check(t, func(rt *rapid.T) {
			var nodes []testNode
			for range rapid.IntRange(1, 14).Draw(rt, "nodes") {
				nodes = append(nodes, randomNode(rt, t, ix, cuts, nodes, &id))
			}
			for _, n := range nodes {
				check(rt, ix, n)
			}
		})
	})
}

func randomNode(rt *rapid.T, t *testing.T, ix *Index, cuts []int64, nodes []testNode, id *int) testNode {
	cut := rapid.IntRange(0, len(cuts)-1)
	m := newModel(cuts)
	var parent *Node
	switch p := rapid.IntRange(0, 3*len(nodes)).Draw(rt, "parent"); {
	case p == 0:
		m.resize(cuts[len(cuts)-1])
	case p < len(nodes):
		parent, m = nodes[p].Node, nodes[p].model.clone()
	default:
		last := nodes[len(nodes)-1]
		parent, m = last.Node, last.model.clone()
	}
	if rapid.IntRange(0, 3).Draw(rt, "resize") == 0 {
		m.resize(cuts[cut.Draw(rt, "size")])
	}
	*id++
	b, err := ix.Begin(testID(*id), parent, m.size)
	if err != nil {
		rt.Fatal(err)
	}
	pos := int64(100)
	add := func(from, to int64, data bool) {
		e := Extent{Off: from, Len: to - from, Data: data}
		s := Segment{}
		if data {
			e.Pos, s.Pos, s.Source = pos, pos, b.node.Number
		}
		pos += e.Len + 17
		if e.Off > m.size || e.Len > m.size-e.Off {
			if err := b.Add(e); !errors.Is(err, ErrPastEnd) {
				rt.Fatalf("%v past %d: %v", e, m.size, err)
			}
			return
		}
		if err := b.Add(e); err != nil {
			rt.Fatal(err)
		}
		m.fill(from, to, s)
	}
	for range rapid.IntRange(0, 12).Draw(rt, "extents") {
		i, j := cut.Draw(rt, "from"), cut.Draw(rt, "to")
		if i > j {
			i, j = j, i
		}
		data := rapid.IntRange(0, 2).Draw(rt, "data") > 0
		if rapid.IntRange(0, 3).Draw(rt, "comb") > 0 {
			add(cuts[i], cuts[j], data)
			continue
		}
		for k := i; k+1 < min(j, i+200); k += 2 {
			add(cuts[k], cuts[k+1], data)
		}
	}
	n, err := b.Commit()
	if err != nil {
		rt.Fatal(err)
	}
	return testNode{n, m}
}

func check(rt *rapid.T, ix *Index, n testNode) {
	want := n.model.segments()
	got, err := ix.Map(n.Node).Append(nil, 0, 1<<62)
	if err != nil {
		rt.Fatal(err)
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("node %d:\n got %v\nwant %v", n.Number, got, want)
	}
	if n.Allocated != allocated(want) {
		rt.Fatalf("node %d: allocated %d, want %d", n.Number, n.Allocated, allocated(want))
	}
	off := rapid.Int64Range(0, n.Size+10).Draw(rt, "off")
	length := rapid.Int64Range(0, 20<<20).Draw(rt, "len")
	part, err := ix.Map(n.Node).Append(nil, off, off+length)
	if err != nil {
		rt.Fatal(err)
	}
	if !slices.Equal(part, within(want, off, off+length)) {
		rt.Fatalf("[%d,+%d): got %v", off, length, part)
	}
	checkSeek(rt, ix.Map(n.Node), want, off, true)
	checkSeek(rt, ix.Map(n.Node), want, off, false)
}

func checkSeek(rt *rapid.T, m *Map, want []Segment, off int64, data bool) {
	expect := int64(-1)
	for _, s := range want {
		if s.End() > off && s.Hole() != data {
			expect = max(off, s.Off)
			break
		}
	}
	if !data && expect < 0 && off < m.node.Size {
		expect = m.node.Size
	}
	next := m.NextHole
	if data {
		next = m.NextData
	}
	at, err := next(off)
	if errors.Is(err, io.EOF) {
		at, err = -1, nil
	}
	if err != nil || at != expect {
		rt.Fatalf("next (data %v) from %d: %d, %v, want %d", data, off, at, err, expect)
	}
}

// TestDepth: however nodes branch, a lookup visits at most maxDepth lineages.
func TestDepth(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		main := build(t, ix, 0, nil, 1<<30, Extent{0, 1 << 30, true, 0})
		for i := 1; i < 60; i += 2 {
			build(t, ix, i, main, 1<<30, Extent{0, 4096, true, 7})
			main = build(t, ix, i+1, main, 1<<30, Extent{int64(i) << 20, 4096, true, 9})
			if len(main.path) > maxDepth {
				t.Fatalf("step %d: %d lineages", i, len(main.path))
			}
		}
		segs := segments(t, ix, main)
		if len(segs) != 61 || main.Allocated != 1<<30 {
			t.Fatalf("%d segments, %d allocated", len(segs), main.Allocated)
		}
	})
}

// countingStore counts the seeks that go through it.
type countingStore struct {
	store
	seeks int
}

func (c *countingStore) seek(from []byte, since uint64, found func(key, value []byte) error) error {
	c.seeks++
	return c.store.seek(from, since, found)
}

// TestLongChain: reading at the end of 1,000 steps takes as many lookups as
// reading at the first, one for each chunk.
func TestLongChain(t *testing.T) {
	const size, chunks = 64 << 20, 16
	ix := mustOpen(t, t.TempDir())
	first := build(t, ix, 0, nil, size, Extent{0, size, true, 0})
	last := first
	for i := range 1000 {
		last = build(t, ix, i+1, last, size, Extent{int64(i%chunks) << topShift, 4096, true, 0})
	}
	counted := &countingStore{store: ix.store}
	ix.store = counted
	for _, n := range []*Node{first, last} {
		counted.seeks = 0
		segments(t, ix, n)
		if counted.seeks != chunks {
			t.Errorf("node %d: %d seeks for %d chunks", n.Number, counted.seeks, chunks)
		}
	}
}

// BenchmarkLookup reads one chunk's segments, uncached, in chains of 1, 30 and
// 1,000 steps.
func BenchmarkLookup(b *testing.B) {
	for _, steps := range []int{1, 30, 1000} {
		b.Run(fmt.Sprint(steps), func(b *testing.B) {
			const chunks = 256
			ix, err := Open(b.TempDir(), Options{CacheSegments: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := ix.Close(); err != nil {
					b.Error(err)
				}
			}()
			n := build(b, ix, 0, nil, chunks<<topShift, Extent{0, chunks << topShift, true, 0})
			for i := range steps - 1 {
				n = build(b, ix, i+1, n, n.Size, Extent{int64(i*37%chunks) << topShift, 65536, true, 0})
			}
			m := ix.Map(n)
			var segs []Segment
			for i := 0; b.Loop(); i++ {
				at := int64(i*101%chunks) << topShift
				if segs, err = m.Append(segs[:0], at, at+1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestSparse: the work follows the data, not the size.
func TestSparse(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		const size = 16 << 40
		n := build(t, ix, 0, nil, size, Extent{0, size, false, 0}, Extent{size - 4096, 4096, true, 17})
		n = build(t, ix, 1, n, size, Extent{0, size - 8192, false, 0})
		m := ix.Map(n)
		if at, err := m.NextData(0); at != size-4096 || err != nil {
			t.Fatal(at, err)
		}
		if at, err := m.NextHole(size - 4096); at != size || err != nil {
			t.Fatal(at, err)
		}
	})
}

// copyIndex copies the folder of an open index: what a crash leaves.
func copyIndex(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(storeDir(to), "LOCK")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return to
}

// TestCrash: a build without its marker is gone after a crash, and what it
// stored is never seen by the one that takes its place.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	ix := mustOpen(t, dir)
	base := build(t, ix, 0, nil, 64<<20, Extent{0, 64 << 20, true, 0})
	if err := ix.Sync(); err != nil {
		t.Fatal(err)
	}
	build(t, ix, 1, base, 64<<20, Extent{0, 32 << 20, true, 111}) // never marked
	after := mustOpen(t, copyIndex(t, dir))
	if _, ok := after.Node(testID(1)); ok {
		t.Fatal("an unmarked node survived")
	}
	again, ok := after.Node(testID(0))
	if !ok {
		t.Fatal("a marked node is gone")
	}
	n := build(t, after, 2, again, 64<<20, Extent{0, 4096, true, 222})
	want := []Segment{
		{0, 4096, 222, n.Number},
		{4096, 64<<20 - 4096, 4096, base.Number},
	}
	if got := segments(t, after, n); !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if err := after.Retain(func(NodeID) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got := segments(t, after, n); !slices.Equal(got, want) {
		t.Fatalf("after cleaning: %v, want %v", got, want)
	}
}

// TestAbort: what an aborted build stored is never seen.
func TestAbort(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		base := build(t, ix, 0, nil, 64<<20, Extent{0, 64 << 20, true, 0})
		b, err := ix.Begin(testID(1), base, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(Extent{0, 32 << 20, true, 5}); err != nil {
			t.Fatal(err)
		}
		if err := b.flush(); err != nil {
			t.Fatal(err)
		}
		b.Abort()
		n := build(t, ix, 2, base, 64<<20, Extent{0, 1, true, 9})
		if got := segments(t, ix, n); len(got) != 2 || got[1].Source != base.Number {
			t.Fatal(got)
		}
	})
}

// TestDeleted: an index whose folder was deleted under it still closes.
func TestDeleted(t *testing.T) {
	dir := t.TempDir()
	ix, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	build(t, ix, 0, nil, 1<<20, Extent{0, 1 << 20, true, 0})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := ix.Close(); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestReopen: nodes, notes and lineages are there after a clean close, and a
// lineage goes on.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	ix, err := Open(dir, Options{Repo: "/backup"})
	if err != nil {
		t.Fatal(err)
	}
	n := build(t, ix, 0, nil, 1<<20, Extent{0, 1 << 20, true, 0})
	if err := ix.PutNotes(map[string][]byte{"file/a": []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := ix.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Repo: "/other"}); !errors.Is(err, ErrOtherRepo) {
		t.Fatal(err)
	}
	ix = mustOpen(t, dir)
	got, ok := ix.Node(n.ID)
	if !ok || got.Size != n.Size || got.Allocated != n.Allocated {
		t.Fatal(got)
	}
	next := build(t, ix, 1, got, 1<<20, Extent{0, 1, true, 9})
	if next.Lineage != n.Lineage || next.Seq != n.Seq+1 {
		t.Fatalf("lineage %d seq %d", next.Lineage, next.Seq)
	}
	seen := ""
	err = ix.Notes("file/", func(k string, v []byte) error {
		seen += k + "=" + string(v)
		return nil
	})
	if err != nil || seen != "file/a=x" {
		t.Fatal(seen, err)
	}
}

// TestLargeNote: the map of what is in a large compressed file is a note.
func TestLargeNote(t *testing.T) {
	dir := t.TempDir()
	ix, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcde\n"), 20<<16) // 20 MiB
	for _, note := range [][]byte{want[1:], want} {
		if err := ix.PutNotes(map[string][]byte{"file/a": note, "file/b": []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ix.Close(); err != nil {
		t.Fatal(err)
	}
	ix = mustOpen(t, dir)
	sizes := map[string]int{}
	err = ix.Notes("file/", func(k string, v []byte) error {
		sizes[k] = len(v)
		if k == "file/a" && !bytes.Equal(v, want) {
			t.Error("other bytes")
		}
		return nil
	})
	if err != nil || len(sizes) != 2 || sizes["file/a"] != len(want) || sizes["file/b"] != 1 {
		t.Error(sizes, err)
	}
}

// TestNewer: an index of a newer release is refused, an older one built again.
func TestNewer(t *testing.T) {
	for version, want := range map[uint64]error{formatVersion + 1: ErrNewer, 0: nil} {
		dir := t.TempDir()
		ix, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b batch
		b.put(metaVersion, binary.AppendUvarint(nil, version))
		if _, err := ix.store.write(&b); err != nil {
			t.Fatal(err)
		}
		if err := ix.Close(); err != nil {
			t.Fatal(err)
		}
		ix, err = Open(dir, Options{})
		if !errors.Is(err, want) {
			t.Fatalf("version %d: %v", version, err)
		}
		if err == nil {
			if err := ix.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRetain: what isn't live is gone, also its records; the rest reads as before.
func TestRetain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		a := build(t, ix, 0, nil, 64<<20, Extent{0, 64 << 20, true, 0})
		b := build(t, ix, 1, a, 64<<20, Extent{0, 8 << 20, true, 1})
		build(t, ix, 2, b, 64<<20, Extent{0, 8 << 20, true, 2})
		build(t, ix, 3, nil, 64<<20, Extent{0, 8 << 20, true, 3})
		want := segments(t, ix, b)
		if err := ix.Retain(func(id NodeID) bool { return id == b.ID }); err != nil {
			t.Fatal(err)
		}
		if got := segments(t, ix, b); !slices.Equal(got, want) {
			t.Fatal(got)
		}
		records := 0
		err := ix.store.scan([]byte{keyChunk}, func(k, _ []byte) (bool, error) {
			records++
			return true, nil
		})
		if err != nil || records != 16+2 {
			t.Fatalf("%d records left, %v", records, err)
		}
		c := build(t, ix, 4, b, 64<<20, Extent{4 << 20, 1, true, 4})
		if got := segments(t, ix, c); len(got) != 4 {
			t.Fatal(got)
		}
	})
}

func ExampleSegment_String() {
	fmt.Println(Segment{0, 4096, 29, 3})
	fmt.Println(Segment{Off: 4096, Len: 4096})
	// Output:
	// [0,4096) 3:29
	// [4096,8192) hole
}
