package index

import "fmt"

// A node's note is a few bytes of the caller's about what the node holds: the index
// doesn't look at them. They go with the node, and aren't durable before Sync.

// MaxNodeNote is the largest note of a node, bytes.
const MaxNodeNote = 128 << 10

// NodeNote returns the note of a node, empty for none.
func (ix *Index) NodeNote(n *Node) string {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return n.note
}

// SetNodeNote sets the note of a committed node. It must not run beside Retain. Errors:
// ErrNoNode where the node isn't in the index.
func (ix *Index) SetNodeNote(n *Node, note string) error {
	if len(note) > MaxNodeNote {
		return fmt.Errorf("note of %d bytes on node %s", len(note), n.ID)
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.nodes[n.ID] != n {
		return fmt.Errorf("%w: %s", ErrNoNode, n.ID)
	}
	n.note = note
	return ix.markLocked(n)
}

// Notes are small values of the caller's, kept beside the nodes. They aren't
// durable before Sync, and the caller must be able to make them again.

// Notes hands every note whose key begins with prefix to each, in the order of
// their keys. The arguments are valid during the call.
func (ix *Index) Notes(prefix string, each func(key string, value []byte) error) error {
	return ix.store.scan(append([]byte{keyNote}, prefix...), func(k, v []byte) (bool, error) {
		return true, each(string(k[1:]), v)
	})
}

// PutNotes stores notes, of 128 MiB at most; a nil value deletes the note.
func (ix *Index) PutNotes(notes map[string][]byte) error {
	if len(notes) == 0 {
		return nil
	}
	var b batch
	for k, v := range notes {
		b.put(append([]byte{keyNote}, k...), v)
	}
	_, err := ix.store.write(&b)
	return ix.fail("write", err)
}
