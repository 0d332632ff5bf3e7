package packed

import (
	"encoding/binary"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format, github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
const (
	lz4Magic  = 0x184d2204
	lz4Legacy = 0x184c2102

	lz4Window      = 64 << 10 // how far back a linked block refers
	lz4LegacyBlock = 8 << 20
)

// What place.aux holds of the frame that a block is in. 0 is no frame.
const (
	lz4SizeCode   = 7 // mask of the code of the largest block, 4 to 7
	lz4IsLegacy   = 1 << 3
	lz4IsLinked   = 1 << 4
	lz4BlockSum   = 1 << 5
	lz4ContentSum = 1 << 6
	lz4HasSize    = 1 << 7
	lz4IsFirst    = 1 << 8 // the frame's first block
	lz4LeftShift  = 9      // with lz4HasSize, how much content comes from here on
)

// find returns the first block at or after a place; ok is false at the end of the
// file.
func (s *lz4Segment) find(at place) (found place, ok bool, err error) {
	for {
		if at.in == s.size && (at.aux == 0 || at.aux&lz4IsLegacy != 0) {
			return place{}, false, nil
		}
		head, err := s.number(at.in)
		if err != nil {
			return place{}, false, err
		}
		switch {
		case at.aux == 0:
			at, err = s.header(at.in, head)
		case at.aux&lz4IsLegacy != 0 && int64(head) > lz4Packed(at.aux):
			at.aux = 0 // not a size, so the next frame's magic
		case at.aux&lz4IsLegacy != 0 || head != 0:
			return at, true, nil
		default:
			at, err = s.trailer(at)
		}
		if err != nil {
			return place{}, false, err
		}
	}
}

// header reads one frame's header: what it returns is the place after it.
func (s *lz4Segment) header(pos int64, magic uint32) (place, error) {
	switch {
	case magic == lz4Legacy:
		return place{pos + 4, lz4IsLegacy}, nil
	case magic&skippableMask == skippableMagic:
		n, err := s.number(pos + 4)
		return place{in: pos + 8 + int64(n)}, err
	case magic != lz4Magic:
		return place{}, lz4Corrupt(pos, "isn't LZ4 from here on")
	}
	var b [15]byte // flags, sizes, size of the content, dictionary, checksum
	if err := readExact(s.src, s.size, b[:3], pos+4); err != nil {
		return place{}, err
	}
	flags, sizes, n := b[0], b[1], 2
	if flags>>6 != 1 || flags&2 != 0 || sizes&0x8f != 0 || sizes>>4 < 4 {
		return place{}, lz4Corrupt(pos, "a frame's header has flags that nothing is known about")
	}
	if flags&8 != 0 {
		n += 8
	}
	if flags&1 != 0 {
		n += 4
	}
	if err := readExact(s.src, s.size, b[:n+1], pos+4); err != nil {
		return place{}, err
	}
	if b[n] != byte(xxh32Of(b[:n])>>8) {
		return place{}, lz4Corrupt(pos, "a frame's header has another checksum than it says")
	}
	if flags&1 != 0 {
		return place{}, &Error{
			Pos: pos, Err: ErrUnsupported, Reason: "was packed with a dictionary",
			Hint: "Unpack it first: lz4 -D DICTIONARY -dc FILE > NEW",
		}
	}
	at := place{pos + 4 + int64(n) + 1, int64(sizes>>4) | lz4IsFirst}
	if flags&0x20 == 0 {
		at.aux |= lz4IsLinked
	}
	if flags&0x10 != 0 {
		at.aux |= lz4BlockSum
	}
	if flags&4 != 0 {
		at.aux |= lz4ContentSum
	}
	if flags&8 != 0 {
		content := binary.LittleEndian.Uint64(b[2:])
		if content >= 1<<(63-lz4LeftShift) {
			return place{}, lz4Corrupt(pos, "a frame's header has a size that can't be")
		}
		at.aux |= lz4HasSize | int64(content)<<lz4LeftShift
	}
	return at, nil
}

// trailer reads the end of a frame, and checks what can be checked.
func (s *lz4Segment) trailer(at place) (place, error) {
	if at.aux&lz4HasSize != 0 && at.aux>>lz4LeftShift != 0 {
		return place{}, lz4Corrupt(at.in, "a frame's content is smaller than its header says")
	}
	pos := at.in + 4
	if at.aux&lz4ContentSum == 0 {
		return place{in: pos}, nil
	}
	want, err := s.number(pos)
	if err != nil {
		return place{}, err
	}
	sum := s.sum
	if at.aux&lz4IsFirst != 0 {
		sum = newXXH32() // a frame without blocks
	}
	if sum != nil && sum.sum() != want {
		return place{}, lz4Corrupt(pos, "a frame's checksum differs")
	}
	return place{in: pos + 4}, nil
}

func (s *lz4Segment) number(pos int64) (uint32, error) {
	var b [4]byte
	err := readExact(s.src, s.size, b[:], pos)
	return binary.LittleEndian.Uint32(b[:]), err
}

// lz4Unpacked is how much a block can unpack to.
func lz4Unpacked(aux int64) int64 {
	if aux&lz4IsLegacy != 0 {
		return lz4LegacyBlock
	}
	return 1 << (8 + 2*(aux&lz4SizeCode))
}

// lz4Packed is how large a packed block can be. Those that would be larger are
// stored as they are, but in legacy frames.
func lz4Packed(aux int64) int64 {
	if aux&lz4IsLegacy != 0 {
		return int64(lz4.CompressBlockBound(lz4LegacyBlock))
	}
	return lz4Unpacked(aux)
}

func lz4Corrupt(pos int64, reason string) error {
	return &Error{Pos: pos, Err: ErrCorrupt, Reason: reason}
}
