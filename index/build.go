package index

import (
	"fmt"
	"maps"
	"slices"
)

// Bounds of what a build keeps in memory.
const (
	maxPending    = 64 << 10 // segments not yet applied, 32 bytes each
	maxDirty      = 4 << 20  // bytes of records not yet stored
	maxEagerZeros = 16       // chunks that zeros touch one by one
)

// A Build writes one node. Use it from one goroutine, and end it with Commit
// or Abort; builds of different nodes may run at the same time.
type Build struct {
	ix        *Index
	node      *Node
	path      []hop
	since     uint64
	size      int64
	allocated int64

	pending  map[int64][]Segment // by top-level chunk, in the order added
	npending int
	dirty    map[chunkID][]byte
	ndirty   int
	err      error
}

// Begin starts the node id on top of parent, nil for a full step. size is the
// image's size at the node, at least 0: what the parent has past it is gone
// for good. The parent's node must stay in the index until the build ends.
func (ix *Index) Begin(id NodeID, parent *Node, size int64) (*Build, error) {
	if size < 0 {
		return nil, fmt.Errorf("image size %d: %w", size, ErrPastEnd)
	}
	ix.mu.Lock()
	n, copyFrom, err := ix.place(id, parent, size)
	if err == nil {
		ix.building++
	}
	ix.mu.Unlock()
	if err != nil {
		return nil, err
	}
	b := &Build{
		ix: ix, node: n, path: n.path, size: size,
		pending: map[int64][]Segment{}, dirty: map[chunkID][]byte{},
	}
	if parent == nil {
		return b, nil
	}
	b.since, b.allocated = parent.since, parent.Allocated
	if copyFrom != nil {
		b.allocated = 0
		err = b.copyAll(copyFrom)
	}
	if err == nil && size < parent.Size {
		err = b.zero(size, parent.Size)
	}
	if err != nil {
		b.Abort()
		return nil, ix.fail("write", err)
	}
	return b, nil
}

// place chooses lineage and sequence of a new node, with ix.mu held. copyFrom
// is set where the new lineage must begin with a copy of the parent.
func (ix *Index) place(id NodeID, parent *Node, size int64) (n *Node, copyFrom *Node, err error) {
	number, err := ix.newID()
	if err != nil {
		return nil, nil, err
	}
	n = &Node{ID: id, Number: number, Size: size}
	if parent != nil {
		n.Parent = parent.ID
		l := ix.lineages[parent.Lineage]
		if l == nil {
			return nil, nil, fmt.Errorf("%w: parent %s", ErrNoNode, parent.ID)
		}
		if !l.sealed && l.tip == parent.Seq && parent.Lineage >= ix.barrier {
			l.tip++
			n.Lineage, n.Seq = parent.Lineage, l.tip
			n.path = append([]hop{{n.Lineage, n.Seq}}, parent.path[1:]...)
			return n, nil, nil
		}
	}
	if n.Lineage, err = ix.newID(); err != nil {
		return nil, nil, err
	}
	n.Seq = 1
	n.path = []hop{{n.Lineage, 1}}
	l := &lineage{tip: 1}
	switch {
	case parent == nil:
	case len(parent.path) < maxDepth:
		l.parent = parent.path[0]
		n.path = append(n.path, parent.path...)
	default:
		copyFrom = parent
	}
	ix.lineages[n.Lineage] = l
	return n, copyFrom, nil
}

// Add applies an extent. Extents come in the order of the backup file; where
// they overlap the last one wins. It returns ErrPastEnd for one that reaches
// past the image.
func (b *Build) Add(e Extent) error {
	if b.err != nil {
		return b.err
	}
	if e.Off < 0 || e.Len < 0 || e.Pos < 0 || e.Off > b.size || e.Len > b.size-e.Off {
		return fmt.Errorf("extent [%d,+%d) of an image of %d bytes: %w", e.Off, e.Len, b.size, ErrPastEnd)
	}
	if e.Len == 0 {
		return nil
	}
	if e.Data {
		b.err = b.addRun(Segment{e.Off, e.Len, e.Pos, b.node.Number})
	} else {
		b.err = b.zero(e.Off, e.Off+e.Len)
	}
	b.err = b.ix.fail("write", b.err)
	return b.err
}

// addRun cuts s at the chunks and keeps the parts until there are many.
func (b *Build) addRun(s Segment) error {
	for at := s.Off; at < s.End(); {
		c := chunkAt(0, at)
		part := s.cut(at, c.end())
		b.pending[c.num] = append(b.pending[c.num], part)
		b.npending++
		at = part.End()
		if b.npending >= maxPending {
			if err := b.applyPending(); err != nil {
				return err
			}
		}
	}
	return nil
}

// zero makes [from, to) a hole. Zeros may span terabytes of nothing: where
// they are long, only the chunks that have a record are touched.
func (b *Build) zero(from, to int64) error {
	if first, last := chunkAt(0, from).num, chunkAt(0, to-1).num; last-first < maxEagerZeros {
		return b.addRun(Segment{Off: from, Len: to - from})
	}
	if err := b.flush(); err != nil {
		return err
	}
	for at := from; at < to; {
		c, ok, err := b.ix.nextChunk(b.path, chunkAt(0, at), b.since)
		if err != nil {
			return err
		}
		if !ok || c.start() >= to {
			return nil
		}
		lo, hi := max(c.start(), from), min(c.end(), to)
		if err := b.addRun(Segment{Off: lo, Len: hi - lo}); err != nil {
			return err
		}
		at = c.end()
	}
	return nil
}

// applyPending turns what was added into records.
func (b *Build) applyPending() error {
	for _, num := range slices.Sorted(maps.Keys(b.pending)) {
		if err := b.apply(chunkID{0, num}, settle(b.pending[num])); err != nil {
			return err
		}
		if b.ndirty >= maxDirty {
			if err := b.store(); err != nil {
				return err
			}
		}
	}
	clear(b.pending)
	b.npending = 0
	return nil
}

// apply lays sorted segments, all inside c, over what c has.
func (b *Build) apply(c chunkID, over []Segment) error {
	base, found, err := b.read(c)
	if err != nil {
		return err
	}
	covered := covers(over, c.start(), b.limit(c))
	if base.split && !covered {
		return b.applyChildren(c, over)
	}
	before := allocated(base.segs)
	if base.split {
		if before, err = b.allocatedBelow(c); err != nil {
			return err
		}
	}
	merged := dropHoles(overlay(make([]Segment, 0, len(base.segs)+len(over)), base.segs, over))
	b.allocated += allocated(merged) - before
	if !base.split && slices.Equal(merged, base.segs) && (found || len(merged) == 0) {
		return nil
	}
	b.writeTree(c, merged)
	return nil
}

// limit is the end of what must be covered to cover c: the image ends there.
func (b *Build) limit(c chunkID) int64 {
	if c.start() >= b.size {
		return c.end()
	}
	return min(c.end(), b.size)
}

func (b *Build) applyChildren(c chunkID, over []Segment) error {
	for i := range fanOut {
		child := c.child(i)
		part := within(over, child.start(), child.end())
		if len(part) == 0 {
			continue
		}
		if err := b.apply(child, part); err != nil {
			return err
		}
	}
	return nil
}

func (b *Build) allocatedBelow(c chunkID) (n int64, err error) {
	for i := range fanOut {
		r, _, err := b.read(c.child(i))
		if err != nil {
			return 0, err
		}
		below := allocated(r.segs)
		if r.split {
			if below, err = b.allocatedBelow(c.child(i)); err != nil {
				return 0, err
			}
		}
		n += below
	}
	return n, nil
}

// writeTree writes c anew. All children of a split are written, even empty
// ones: an older record of theirs must not be found.
func (b *Build) writeTree(c chunkID, segs []Segment) {
	if len(segs) <= maxRuns || c.level == lastLevel {
		b.put(c, appendLeaf(nil, c.start(), segs))
		return
	}
	b.put(c, []byte{recordSplit})
	for i := range fanOut {
		child := c.child(i)
		b.writeTree(child, within(segs, child.start(), child.end()))
	}
}

func (b *Build) put(c chunkID, value []byte) {
	old, ok := b.dirty[c]
	if !ok {
		b.ndirty += chunkKeyLen
	}
	b.ndirty += len(value) - len(old)
	b.dirty[c] = value
}

// read returns the record of c as the build sees it now.
func (b *Build) read(c chunkID) (r record, found bool, err error) {
	if value, ok := b.dirty[c]; ok {
		r, err = decodeRecord(value, c.start(), c.end()-c.start())
		return r, true, err
	}
	return b.ix.lookup(b.path, c, b.since)
}

// store writes the dirty records.
func (b *Build) store() error {
	if len(b.dirty) == 0 {
		return nil
	}
	var out batch
	for c, value := range b.dirty {
		out.put(appendChunkKey(nil, b.node.Lineage, c, b.node.Seq), value)
	}
	since, err := b.ix.store.write(&out)
	if err != nil {
		return err
	}
	b.since = max(b.since, since)
	clear(b.dirty)
	b.ndirty = 0
	return nil
}

func (b *Build) flush() error {
	if err := b.applyPending(); err != nil {
		return err
	}
	return b.store()
}

// maxUnmarked bounds how many committed nodes a crash can cost.
const maxUnmarked = 512

// Commit makes the node visible, and durable with the next Sync at the latest.
func (b *Build) Commit() (*Node, error) {
	if b.err == nil {
		b.err = b.ix.fail("write", b.flush())
	}
	if b.err != nil {
		b.Abort()
		return nil, b.err
	}
	ix, n := b.ix, b.node
	n.Allocated, n.since = b.allocated, b.since
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.building--
	ix.nodes[n.ID] = n
	ix.numbers[n.Number] = n
	if err := ix.markLocked(n); err != nil {
		return nil, err
	}
	return n, nil
}

// markLocked has the marker of a node written with the next Sync at the latest, with
// ix.mu held.
func (ix *Index) markLocked(n *Node) error {
	if !n.pending {
		n.pending = true
		ix.pending = append(ix.pending, n)
	}
	if len(ix.pending) >= maxUnmarked {
		return ix.syncLocked()
	}
	return nil
}

// Abort throws the build away. Its lineage can't be continued after this:
// records of the build may be stored in it.
func (b *Build) Abort() {
	b.ix.mu.Lock()
	defer b.ix.mu.Unlock()
	b.ix.building--
	l := b.ix.lineages[b.node.Lineage]
	l.sealed = true
	var out batch
	out.put(lineageKey(b.node.Lineage), l.marshal())
	if _, err := b.ix.store.write(&out); err != nil {
		// Not marked clean then, so that the next session continues no lineage.
		b.ix.building++
	}
}
