package index

import (
	"errors"
	"io"
	"testing"
)

// TestNextRecord: it names chunks that may have data, without reading records,
// and passes over none that has.
func TestNextRecord(t *testing.T) {
	const size = 16 << 40
	eachStore(t, func(t *testing.T, open func() *Index) {
		ix := open()
		a := build(t, ix, 0, nil, size, Extent{5 << 20, 4096, true, 0}, Extent{1<<40 + 4096, 4096, true, 4096})
		b := build(t, ix, 1, a, size, Extent{5 << 20, 4096, false, 0}, Extent{9 << 20, 10, true, 0})
		fork := build(t, ix, 2, a, size, Extent{size - 1, 1, true, 0})
		cut := build(t, ix, 3, fork, 1<<40+100)
		before := ix.Lookups()
		for _, test := range []struct {
			n         *Node
			off, want int64 // want -1: none
		}{
			{b, 0, 4 << 20}, // only a hole now
			{b, 5<<20 + 1, 5<<20 + 1},
			{b, 8 << 20, 8 << 20},
			{b, 12 << 20, 1 << 40},
			{b, 2 << 40, -1},
			{b, size, -1},
			{fork, 12 << 20, 1 << 40},
			{fork, 2 << 40, size - ChunkSize},
			{fork, size - 1, size - 1},
			{cut, 12 << 20, 1 << 40},
			{cut, 2 << 40, -1},
		} {
			at, err := ix.Map(test.n).NextRecord(test.off)
			if errors.Is(err, io.EOF) {
				at, err = -1, nil
			}
			if err != nil || at != test.want {
				t.Errorf("node %d from %d: %d, %v, want %d", test.n.Number, test.off, at, err, test.want)
			}
		}
		if n := ix.Lookups() - before; n != 0 {
			t.Errorf("%d records were read", n)
		}
	})
}
