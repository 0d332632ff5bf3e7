package index

import "maps"

// Retain deletes the nodes for which live is false, and their records. The
// ancestors of a live node stay. It must not run beside a build.
func (ix *Index) Retain(live func(NodeID) bool) error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	keep := ix.closure(live)
	if err := ix.syncLocked(); err != nil {
		return err
	}
	tips, err := ix.forget(keep)
	if err != nil {
		return ix.fail("write", err)
	}
	if err := ix.strays(tips); err != nil {
		return ix.fail("read", err)
	}
	return ix.fail("write", ix.sweep(tips))
}

// closure returns the live nodes with all their ancestors.
func (ix *Index) closure(live func(NodeID) bool) map[NodeID]*Node {
	keep := map[NodeID]*Node{}
	for id, n := range ix.nodes {
		if !live(id) {
			continue
		}
		for n != nil && keep[n.ID] == nil {
			keep[n.ID] = n
			n = ix.nodes[n.Parent]
		}
	}
	return keep
}

// forget removes the markers of all nodes that aren't kept, and seals the
// lineages that lose their end: those sequences are used up. It returns the
// newest kept sequence of each lineage that lost something.
func (ix *Index) forget(keep map[NodeID]*Node) (map[uint32]uint32, error) {
	tips := map[uint32]uint32{}
	var b batch
	for id, n := range ix.nodes {
		if keep[id] == nil {
			tips[n.Lineage] = 0
			b.remove(nodeKey(id))
		}
	}
	for _, n := range keep {
		if tip, lost := tips[n.Lineage]; lost {
			tips[n.Lineage] = max(tip, n.Seq)
		}
	}
	used := map[uint32]bool{}
	for _, n := range ix.nodes {
		used[n.Lineage] = true
	}
	for id := range ix.lineages {
		if !used[id] {
			tips[id] = 0 // only builds that were thrown away
		}
	}
	if len(tips) == 0 {
		return tips, nil
	}
	for id := range tips {
		ix.lineages[id].sealed = true
		b.put(lineageKey(id), ix.lineages[id].marshal())
	}
	if _, err := ix.store.write(&b); err != nil {
		return nil, err
	}
	if err := ix.store.sync(); err != nil {
		return nil, err
	}
	ix.nodes = keep
	ix.numbers = make(map[uint32]*Node, len(keep))
	for n := range maps.Values(keep) {
		ix.numbers[n.Number] = n
	}
	return tips, nil
}

// strays adds the lineages that have records but are not known: a crash left
// them before their first marker.
func (ix *Index) strays(tips map[uint32]uint32) error {
	for next, more := uint32(0), true; more; {
		more = false
		err := ix.store.seek(lineagePrefix(next), 0, func(key, _ []byte) error {
			id, _, _, ok := parseChunkKey(key)
			if !ok {
				return nil
			}
			if ix.lineages[id] == nil {
				tips[id] = 0
			}
			next, more = id+1, id+1 != 0
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep deletes the records newer than the tips, and the lineages without any.
func (ix *Index) sweep(tips map[uint32]uint32) error {
	var b batch
	for id, tip := range tips {
		err := ix.store.scan(lineagePrefix(id), func(key, _ []byte) (bool, error) {
			if _, _, seq, ok := parseChunkKey(key); ok && seq > tip {
				b.remove(append([]byte(nil), key...))
			}
			if b.bytes < maxDirty {
				return true, nil
			}
			_, err := ix.store.write(&b)
			b.reset()
			return true, err
		})
		if err != nil {
			return err
		}
		if tip == 0 {
			delete(ix.lineages, id)
			b.remove(lineageKey(id))
		}
	}
	_, err := ix.store.write(&b)
	return err
}
