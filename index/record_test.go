package index

import (
	"slices"
	"testing"
)

// FuzzRecord: no value makes the decoder panic or allocate much, and what it
// accepts encodes to something that decodes to the same.
func FuzzRecord(f *testing.F) {
	start, size := chunkID{0, 3}.start(), chunkID{0, 3}.size()
	f.Add(appendLeaf(nil, start, nil))
	f.Add([]byte{recordSplit})
	f.Add(appendLeaf(nil, start, []Segment{
		{start, 1, 29, 1}, {start + 4096, 4096, 47, 1}, {start + 9000, 5, 1 << 40, 7}, {start + size - 1, 1, 0, 1<<32 - 1},
	}))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord(value, start, size)
		if err != nil || r.split {
			return
		}
		again, err := decodeRecord(appendLeaf(nil, start, r.segs), start, size)
		if err != nil || !slices.Equal(again.segs, r.segs) {
			t.Fatalf("%v\n%v\n%v", r.segs, again.segs, err)
		}
	})
}

// FuzzKey: keys parse to what made them, and sort by chunk, then newest first.
func FuzzKey(f *testing.F) {
	f.Add(uint32(1), uint8(0), int64(0), uint32(1))
	f.Add(uint32(1<<32-1), uint8(lastLevel), int64(1<<56), uint32(1<<32-1))
	f.Fuzz(func(t *testing.T, lineage uint32, level uint8, num int64, seq uint32) {
		c := chunkID{level % (lastLevel + 1), num & (1<<57 - 1)}
		key := appendChunkKey(nil, lineage, c, seq)
		l, gotC, s, ok := parseChunkKey(key)
		if !ok || l != lineage || gotC != c || s != seq {
			t.Fatal(l, gotC, s, ok)
		}
		if seq > 0 && string(appendChunkKey(nil, lineage, c, seq-1)) <= string(key) {
			t.Fatal("older keys must come later")
		}
	})
}
