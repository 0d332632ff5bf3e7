// Package index answers one question with one seek, whatever the length of a
// chain: which bytes of which backup file are bytes [off, off+len) of an image
// at a snapshot?
//
// # Nodes
//
// A Node is the state of an image after one step of its chain: a parent (none
// for a full export), a size, and the extents that the step changes. Its
// NodeID comes from the caller and stands for exactly these three, so a node
// is written once and never changed. Every node has a number; a segment names
// by that number the node whose step holds its bytes. A node may carry a note of the
// caller's, a few bytes that the index doesn't look at.
//
// # Records
//
// The image is cut into chunks of 4 MiB. For every chunk that a step touches
// there is a record with the chunk resolved as of that node: runs of data
// (source, position) with holes between them. Chunks that a step doesn't touch
// have no record; the newest older one holds.
//
//	key    c | lineage | level | chunk number | ^sequence
//	value  leaf:  runs of data and holes        (at most 64)
//	       split: look one level deeper, 16 chunks of a 16th of the size
//
//	           seq 1      seq 2      seq 3
//	chunk 0    [leaf]                [leaf]      at seq 2: the leaf of seq 1
//	chunk 1    [leaf]     [leaf]
//	chunk 2               [split]
//	   2.0                [leaf]     [leaf]      level 1: 256 KiB each
//	   2.1..15            [leaf]
//
// The sequence is stored inverted, so "the newest record at or before S" is the
// first key at or after (lineage, level, chunk, ^S). A node whose parent isn't
// the tip of its lineage opens a new lineage that points to its parent; what is
// not found in a lineage is looked up at the fork point. At most maxDepth
// lineages hang on each other: past that a new one starts with a copy.
//
// A split writes all 16 chunks below it, so that no older record of a deeper
// level can shine through.
//
// # Crashes
//
// A node becomes visible to the process once its records are stored, and
// durable by a marker that is written after the records have been synced.
// Records without a marker are never looked at: after a crash no lineage is
// continued that existed before, so a sequence number is never used twice.
// The index is a cache. Deleting it loses nothing.
//
// It is not a store of backup data, and knows no file names: the mapping from
// node numbers to files is the caller's. It doesn't tell zeros from holes, since
// both read as zeros (docs/adr/0002).
package index
