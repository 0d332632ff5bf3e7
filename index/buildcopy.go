package index

// copyAll copies every record that from sees.
func (b *Build) copyAll(from *Node) error {
	for c := (chunkID{}); ; c.num++ {
		var ok bool
		var err error
		if c, ok, err = b.ix.nextChunk(from.path, c, from.since); err != nil || !ok {
			return err
		}
		if err := b.copyTree(from, c); err != nil {
			return err
		}
		if b.ndirty >= maxDirty {
			if err := b.store(); err != nil {
				return err
			}
		}
	}
}

func (b *Build) copyTree(from *Node, c chunkID) error {
	r, found, err := b.ix.lookup(from.path, c, from.since)
	if err != nil || !found {
		return err
	}
	if !r.split {
		b.put(c, appendLeaf(nil, c.start(), r.segs))
		b.allocated += allocated(r.segs)
		return nil
	}
	b.put(c, []byte{recordSplit})
	for i := range fanOut {
		if err := b.copyTree(from, c.child(i)); err != nil {
			return err
		}
	}
	return nil
}
