package index

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// A NodeID identifies a node by what it is made of: its parent, the backup
// file's identity and the step in it. The caller computes it.
type NodeID [16]byte

// String is the ID in hexadecimal.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// A Node is the state of an image after one step. Immutable once committed, but for
// its note.
type Node struct {
	ID        NodeID
	Parent    NodeID // zero for a full step
	Number    uint32 // what Segment.Source says; at least 1
	Lineage   uint32
	Seq       uint32
	Size      int64 // of the image, bytes
	Allocated int64 // bytes that come from data

	path  []hop  // lineages to look in, newest first
	since uint64 // store writes that a lookup must see

	// With Index.mu held:
	note    string // the caller's
	pending bool   // its marker, or the one with its note, isn't written yet
}

// A hop is a lineage and the newest sequence that counts in it.
type hop struct{ lineage, seq uint32 }

// A lineage is a line of nodes that build on each other.
type lineage struct {
	parent hop    // where it branched off; zero for one that starts anew
	tip    uint32 // the newest sequence in use
	sealed bool   // can't be continued
}

// maxDepth bounds how many lineages a lookup may have to visit.
const maxDepth = 8

func lineageKey(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{keyLineage}, id) }

func nodeKey(id NodeID) []byte { return append([]byte{keyNode}, id[:]...) }

func (l *lineage) marshal() []byte {
	sealed := byte(0)
	if l.sealed {
		sealed = 1
	}
	v := []byte{sealed}
	v = binary.AppendUvarint(v, uint64(l.parent.lineage))
	return binary.AppendUvarint(v, uint64(l.parent.seq))
}

func (n *Node) marshal() []byte {
	v := append([]byte(nil), n.Parent[:]...)
	v = binary.AppendUvarint(v, uint64(n.Number))
	v = binary.AppendUvarint(v, uint64(n.Lineage))
	v = binary.AppendUvarint(v, uint64(n.Seq))
	v = binary.AppendUvarint(v, uint64(n.Size))
	v = binary.AppendUvarint(v, uint64(n.Allocated))
	return append(v, n.note...)
}

func unmarshalNode(key, value []byte) (*Node, error) {
	n := &Node{}
	if len(key) != 1+len(n.ID) {
		return nil, fmt.Errorf("%w: node key of %d bytes", errRecord, len(key))
	}
	copy(n.ID[:], key[1:])
	d := decoder{b: value}
	copy(n.Parent[:], d.bytes(len(n.Parent)))
	n.Number = d.source()
	n.Lineage = d.source()
	n.Seq = d.source()
	n.Size = int64(d.uvarint())
	n.Allocated = int64(d.uvarint())
	n.note = string(d.b)
	if d.bad || n.Number == 0 || n.Lineage == 0 || n.Seq == 0 || n.Size < 0 || n.Allocated < 0 {
		return nil, fmt.Errorf("%w: node %s", errRecord, n.ID)
	}
	return n, nil
}

func (ix *Index) loadLineages() error {
	return ix.store.scan([]byte{keyLineage}, func(key, value []byte) (bool, error) {
		if len(key) != 5 || len(value) < 1 {
			return false, fmt.Errorf("%w: lineage", errRecord)
		}
		d := decoder{b: value[1:]}
		l := &lineage{sealed: value[0] != 0}
		l.parent = hop{d.source(), d.source()}
		if d.bad {
			return false, fmt.Errorf("%w: lineage", errRecord)
		}
		ix.lineages[binary.BigEndian.Uint32(key[1:])] = l
		return true, nil
	})
}

func (ix *Index) loadNodes() error {
	err := ix.store.scan([]byte{keyNode}, func(key, value []byte) (bool, error) {
		n, err := unmarshalNode(key, value)
		if err != nil {
			return false, err
		}
		l := ix.lineages[n.Lineage]
		if l == nil {
			return false, fmt.Errorf("%w: node %s has no lineage", errRecord, n.ID)
		}
		l.tip = max(l.tip, n.Seq)
		ix.nodes[n.ID] = n
		ix.numbers[n.Number] = n
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, n := range ix.nodes {
		if n.path, err = ix.hops(hop{n.Lineage, n.Seq}); err != nil {
			return err
		}
	}
	return nil
}

// hops lists where a lookup that starts at h goes, newest lineage first. Nodes
// of one lineage share the tail.
func (ix *Index) hops(h hop) ([]hop, error) {
	var path []hop
	for h.lineage != 0 {
		l := ix.lineages[h.lineage]
		if l == nil || len(path) > maxDepth {
			return nil, fmt.Errorf("%w: lineage %d", errRecord, h.lineage)
		}
		path = append(path, h)
		h = l.parent
	}
	return slices.Clip(path), nil
}

// Node returns a committed node.
func (ix *Index) Node(id NodeID) (*Node, bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	n, ok := ix.nodes[id]
	return n, ok
}

// Numbered returns the committed node with that number.
func (ix *Index) Numbered(number uint32) (*Node, bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	n, ok := ix.numbers[number]
	return n, ok
}
