package packed

import (
	"encoding/binary"
	"hash/crc32"
)

// The .xz format, tukaani.org/xz/xz-file-format.txt.
const (
	xzMagic    = "\xfd7zXZ\x00"
	xzEndMagic = "YZ"
	xzHeadSize = 12 // of a stream's header, and of its footer

	xzLZMA2   = 0x21 // the filter
	xzMinDict = 4 << 10
	xzBuffer  = 64 << 10

	// place.aux: how blocks are checked, then a digest of the sizes of the stream's
	// blocks before it, to be compared with the sizes in the index.
	xzCheck       = 15
	xzDigestShift = 4

	xzPackAgain = "Pack it again without filters: xz -dc FILE | xz > NEW"
)

// The checks that liblzma knows.
const (
	xzNone   = 0
	xzCRC32  = 1
	xzCRC64  = 4
	xzSHA256 = 10
)

// An xzBlock is the header of a block; sizes are -1 when it doesn't tell.
type xzBlock struct {
	size     int64 // of the header
	packed   int64
	unpacked int64
	dict     int64
}

// header reads a stream's header.
func (s *xzSegment) header(pos int64) (place, error) {
	var b [xzHeadSize]byte
	s.in.seek(pos)
	if err := s.in.full(b[:]); err != nil {
		return place{}, err
	}
	if string(b[:6]) != xzMagic {
		return place{}, s.corrupt("isn't xz from here on")
	}
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return place{}, s.corrupt("a stream's header has another checksum than it says")
	}
	if b[6] != 0 || b[7] > xzCheck {
		return place{}, &Error{Pos: pos, Err: ErrUnsupported, Reason: "is of a newer version of xz"}
	}
	return place{pos + xzHeadSize, int64(b[7])}, nil
}

// whole makes sure that the file has the end of a stream at its end. A file that was
// cut off is found out at once by that.
func (s *xzSegment) whole() error {
	tail := make([]byte, min(s.in.size, xzBuffer))
	if err := readExact(s.in.src, s.in.size, tail, s.in.size-int64(len(tail))); err != nil {
		return err
	}
	for n := len(tail); n >= 4; n = len(tail) {
		if binary.LittleEndian.Uint32(tail[n-4:]) != 0 {
			break
		}
		tail = tail[:n-4]
	}
	if len(tail) >= 4 && string(tail[len(tail)-2:]) != xzEndMagic {
		return &Error{
			Pos: s.in.size, Err: ErrIncomplete, Reason: "has no end of an xz file at its end: it was cut off",
			Hint: "Copy it again, or make the export again",
		}
	}
	return nil
}

// block reads the header of a block.
func (s *xzSegment) block() (xzBlock, error) {
	begin := s.in.pos()
	first, err := s.in.ReadByte()
	if err != nil {
		return xzBlock{}, err
	}
	if first == 0 {
		return xzBlock{}, s.corrupt("no block can begin here")
	}
	b := make([]byte, (int(first)+1)*4)
	b[0] = first
	if err := s.in.full(b[1:]); err != nil {
		return xzBlock{}, err
	}
	end := len(b) - 4
	if crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return xzBlock{}, s.corrupt("a block's header has another checksum than it says")
	}
	h := xzBlock{size: int64(len(b)), packed: -1, unpacked: -1}
	flags, rest, ok := b[1], b[2:end], true
	if flags&0x40 != 0 {
		h.packed, rest, ok = xzNumber(rest)
	}
	if ok && flags&0x80 != 0 {
		h.unpacked, rest, ok = xzNumber(rest)
	}
	filter, rest, more := xzNumber(rest)
	if !ok || !more {
		return xzBlock{}, s.corrupt("a block's header is broken")
	}
	if flags&0x3f != 0 || filter != xzLZMA2 {
		return xzBlock{}, &Error{Pos: begin, Err: ErrUnsupported, Reason: "was packed with a filter besides LZMA2", Hint: xzPackAgain}
	}
	if len(rest) < 2 || rest[0] != 1 || rest[1] > 40 {
		return xzBlock{}, s.corrupt("a block's header is broken")
	}
	if h.dict = (2 | int64(rest[1]&1)) << (rest[1]/2 + 11); h.dict > maxWindow {
		return xzBlock{}, &Error{
			Pos: begin, Err: ErrUnsupported, Reason: "needs more than 128 MiB of memory to be unpacked",
			Hint: "Pack it again with a dictionary of 64 MiB at most: xz -dc FILE | xz -9 > NEW",
		}
	}
	return h, nil
}

// index reads the index and the footer of a stream whose blocks are over.
func (s *xzSegment) index(at place) error {
	sum := crc32.NewIEEE()
	s.in.seek(at.in)
	s.in.sum = sum
	defer func() { s.in.sum = nil }()
	if _, err := s.in.ReadByte(); err != nil {
		return err
	}
	blocks, err := s.number()
	if err != nil {
		return err
	}
	digest := int64(0)
	for range blocks {
		whole, err := s.number()
		if err != nil {
			return err
		}
		unpacked, err := s.number()
		if err != nil {
			return err
		}
		digest = xzDigest(digest, whole, unpacked)
	}
	if err := s.padding(s.in.pos()-at.in, "an index ends in something else than zeros"); err != nil {
		return err
	}
	s.in.sum = nil
	var b [4 + xzHeadSize]byte // the index's checksum and the footer
	if err := s.in.full(b[:]); err != nil {
		return err
	}
	size := s.in.pos() - at.in - xzHeadSize
	foot := b[4:]
	switch {
	case sum.Sum32() != binary.LittleEndian.Uint32(b[:]):
		return s.corrupt("an index has another checksum than it says")
	case digest != at.aux>>xzDigestShift:
		return s.corrupt("an index tells of other blocks than there are")
	case string(foot[10:]) != xzEndMagic, crc32.ChecksumIEEE(foot[4:10]) != binary.LittleEndian.Uint32(foot):
		return s.corrupt("a stream's footer has another checksum than it says")
	case int64(binary.LittleEndian.Uint32(foot[4:]))*4+4 != size, foot[8] != 0, int64(foot[9]) != at.aux&xzCheck:
		return s.corrupt("a stream's footer isn't that of the stream")
	}
	return nil
}

// number reads a number of the index.
func (s *xzSegment) number() (int64, error) {
	var b [9]byte
	for i := range b {
		var err error
		if b[i], err = s.in.ReadByte(); err != nil {
			return 0, err
		}
		if b[i] < 0x80 {
			break
		}
	}
	n, _, ok := xzNumber(b[:])
	if !ok {
		return 0, s.corrupt("an index is broken")
	}
	return n, nil
}

// xzNumber takes a number of at most 63 bits from the front.
func xzNumber(b []byte) (n int64, rest []byte, ok bool) {
	v, size := binary.Uvarint(b)
	if size <= 0 || size > 9 || size > 1 && b[size-1] == 0 {
		return 0, nil, false
	}
	return int64(v), b[size:], true
}

// padding reads zeros up to the next multiple of 4.
func (s *xzSegment) padding(n int64, reason string) error {
	var b [4]byte
	p := b[:-n&3]
	if err := s.in.full(p); err != nil {
		return err
	}
	if b != [4]byte{} {
		return s.corrupt(reason)
	}
	return nil
}

// xzDigest takes a block's sizes into what came of the blocks before it.
func xzDigest(before, whole, unpacked int64) int64 {
	h := uint64(before)
	for _, n := range []int64{whole, unpacked} {
		h = (h ^ uint64(n)) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return int64(h >> (1 + xzDigestShift))
}
