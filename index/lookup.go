package index

import (
	"bytes"
	"io"
	"slices"
)

// lookup returns the newest record of c that the path sees.
func (ix *Index) lookup(path []hop, c chunkID, since uint64) (r record, found bool, err error) {
	var room [chunkKeyLen]byte
	for _, h := range path {
		key := appendChunkKey(room[:0], h.lineage, c, h.seq)
		err = ix.store.seek(key, since, func(k, value []byte) error {
			const id = chunkKeyLen - 4
			if len(k) != chunkKeyLen || !bytes.Equal(k[:id], key[:id]) {
				return nil
			}
			found = true
			r, err = decodeRecord(value, c.start(), c.end()-c.start())
			return err
		})
		if err != nil || found {
			return r, found, err
		}
	}
	return record{}, false, nil
}

// nextChunk returns the first top-level chunk at or after from that any
// lineage of the path has a record of, be it a newer one.
func (ix *Index) nextChunk(path []hop, from chunkID, since uint64) (next chunkID, ok bool, err error) {
	var room [chunkKeyLen]byte
	for _, h := range path {
		key := appendChunkKey(room[:0], h.lineage, from, 1<<32-1)
		err = ix.store.seek(key, since, func(k, _ []byte) error {
			lineage, c, _, valid := parseChunkKey(k)
			if valid && lineage == h.lineage && c.level == 0 && (!ok || c.num < next.num) {
				next, ok = c, true
			}
			return nil
		})
		if err != nil {
			return chunkID{}, false, err
		}
	}
	return next, ok, nil
}

// A Map reads the segments of one node. It is safe for concurrent use.
type Map struct {
	ix   *Index
	node *Node
}

// Map returns the map of a committed node.
func (ix *Index) Map(n *Node) *Map { return &Map{ix, n} }

// Append appends the segments of [off, end) to dst: sorted, without gaps, cut
// to the range and to the size of the image, joined where they touch.
func (m *Map) Append(dst []Segment, off, end int64) ([]Segment, error) {
	end = min(end, m.node.Size)
	for at := off; at < end; {
		c := chunkAt(0, at)
		var err error
		to := min(end, c.end())
		if dst, err = m.appendChunk(dst, c, at, to); err != nil {
			return dst, m.ix.fail("read", err)
		}
		at = to
	}
	return dst, nil
}

func (m *Map) appendChunk(dst []Segment, c chunkID, off, end int64) ([]Segment, error) {
	r, err := m.record(c)
	if err != nil {
		return dst, err
	}
	if !r.split {
		return appendFilled(dst, r.segs, off, end), nil
	}
	for at := off; at < end; {
		child := chunkAt(c.level+1, at)
		to := min(end, child.end())
		if dst, err = m.appendChunk(dst, child, at, to); err != nil {
			return dst, err
		}
		at = to
	}
	return dst, nil
}

// appendFilled appends the part of segs in [off, end), gaps as holes.
func appendFilled(dst, segs []Segment, off, end int64) []Segment {
	i, _ := slices.BinarySearchFunc(segs, off, func(s Segment, off int64) int {
		if s.End() <= off {
			return -1
		}
		return 1
	})
	at := off
	for ; i < len(segs) && segs[i].Off < end; i++ {
		s := segs[i].cut(off, end)
		if s.Off > at {
			dst = push(dst, Segment{Off: at, Len: s.Off - at})
		}
		dst = push(dst, s)
		at = s.End()
	}
	if at < end {
		dst = push(dst, Segment{Off: at, Len: end - at})
	}
	return dst
}

// record reads through the cache.
func (m *Map) record(c chunkID) (record, error) {
	key := cacheKey{m.node.Number, c}
	if r, ok := m.ix.cache.get(key); ok {
		return r, nil
	}
	m.ix.lookups.Add(1)
	r, _, err := m.ix.lookup(m.node.path, c, m.node.since)
	if err == nil {
		m.ix.cache.put(key, r)
	}
	return r, err
}

// NextData returns the first offset at or after off that data covers, or
// io.EOF when there is none below the size of the image.
func (m *Map) NextData(off int64) (int64, error) {
	for off < m.node.Size {
		c, ok, err := m.ix.nextChunk(m.node.path, chunkAt(0, off), m.node.since)
		if err != nil {
			return 0, m.ix.fail("read", err)
		}
		if !ok {
			break
		}
		at, found, err := m.find(max(off, c.start()), c.end(), true)
		if err != nil || found {
			return at, err
		}
		off = c.end()
	}
	return 0, io.EOF
}

// ChunkSize is what a record covers, bytes: Append is fastest in pieces that
// don't cross a multiple of it.
const ChunkSize = 1 << topShift

// NextRecord returns the first offset at or after off that a record may put
// data at, or io.EOF when there is none below the size of the image. It reads
// no record, so there may be holes up to the next multiple of ChunkSize.
func (m *Map) NextRecord(off int64) (int64, error) {
	if off >= m.node.Size {
		return 0, io.EOF
	}
	c, ok, err := m.ix.nextChunk(m.node.path, chunkAt(0, off), m.node.since)
	if err != nil {
		return 0, m.ix.fail("read", err)
	}
	if at := max(off, c.start()); ok && at < m.node.Size {
		return at, nil
	}
	return 0, io.EOF
}

// NextHole returns the first offset at or after off that no data covers; the
// end of the image is one. It returns io.EOF at or past the end.
func (m *Map) NextHole(off int64) (int64, error) {
	if off >= m.node.Size {
		return 0, io.EOF
	}
	for off < m.node.Size {
		end := chunkAt(0, off).end()
		at, found, err := m.find(off, end, false)
		if err != nil || found {
			return at, err
		}
		off = end
	}
	return m.node.Size, nil
}

// find returns where the first data, or the first hole, in [off, end) begins.
func (m *Map) find(off, end int64, data bool) (int64, bool, error) {
	segs, err := m.Append(nil, off, end)
	for _, s := range segs {
		if s.Hole() != data {
			return s.Off, true, nil
		}
	}
	return 0, false, err
}

// Lookups counts how often a record wasn't in the cache, since Open.
func (ix *Index) Lookups() uint64 { return ix.lookups.Load() }
