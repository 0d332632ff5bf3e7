package index

import "encoding/binary"

// The first byte of a key says what it holds.
const (
	keyChunk   = 'c' // c | lineage be32 | level u8 | chunk be64 | ^sequence be32
	keyLineage = 'l' // l | lineage be32
	keyMeta    = 'm' // m | name
	keyNode    = 'n' // n | NodeID
	keyNote    = 'u' // u | the caller's key
)

// Chunks halve four times by 16: 4 MiB, 256 KiB, 16 KiB, 1 KiB, 64 B. A leaf
// of the last level can't have more segments than bytes, so every leaf is small.
const (
	topShift   = 22
	levelShift = 4
	fanOut     = 1 << levelShift
	lastLevel  = 4
	maxRuns    = 64 // segments in a leaf above the last level
)

func shift(level uint8) uint { return topShift - levelShift*uint(level) }

// A chunkID is one chunk of one level.
type chunkID struct {
	level uint8
	num   int64
}

func chunkAt(level uint8, off int64) chunkID { return chunkID{level, off >> shift(level)} }

func (c chunkID) start() int64 { return c.num << shift(c.level) }
func (c chunkID) size() int64  { return 1 << shift(c.level) }

// end is the first byte after the chunk; the last chunk below 2^63 ends at 2^63-1.
func (c chunkID) end() int64 {
	if end := c.start() + c.size(); end > 0 {
		return end
	}
	return 1<<63 - 1
}

func (c chunkID) child(i int) chunkID { return chunkID{c.level + 1, c.num<<levelShift + int64(i)} }

const chunkKeyLen = 1 + 4 + 1 + 8 + 4

func appendChunkKey(dst []byte, lineage uint32, c chunkID, seq uint32) []byte {
	dst = append(dst, keyChunk)
	dst = binary.BigEndian.AppendUint32(dst, lineage)
	dst = append(dst, c.level)
	dst = binary.BigEndian.AppendUint64(dst, uint64(c.num))
	return binary.BigEndian.AppendUint32(dst, ^seq)
}

// parseChunkKey is the inverse of appendChunkKey.
func parseChunkKey(key []byte) (lineage uint32, c chunkID, seq uint32, ok bool) {
	if len(key) != chunkKeyLen || key[0] != keyChunk {
		return 0, chunkID{}, 0, false
	}
	lineage = binary.BigEndian.Uint32(key[1:])
	c = chunkID{key[5], int64(binary.BigEndian.Uint64(key[6:]))}
	seq = ^binary.BigEndian.Uint32(key[14:])
	return lineage, c, seq, c.level <= lastLevel && c.num >= 0
}

// lineagePrefix is what all chunk keys of a lineage begin with.
func lineagePrefix(lineage uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyChunk}, lineage)
}
