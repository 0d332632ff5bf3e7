package packed

import (
	"compress/bzip2"
	"errors"
	"io"
	"math/bits"
)

const (
	bzip2Block = 0x314159265359 // begins a block, at any bit
	bzip2End   = 0x177245385090 // begins the end of a stream
	bzip2Magic = "BZh"          // begins a stream, at a byte; then the level

	// place.aux: the level, then the checksum of the stream's blocks before it.
	bzip2Level    = 15
	bzip2SumShift = 4
)

// errBlockEnd stops the decoder after one block.
var errBlockEnd = errors.New("end of the block")

// A bzip2Segment is one block.
//
// The decoder of the standard library takes one byte after the other, and no more
// than it needs: it gives the first byte of a block as soon as it has taken in the
// last bit of it. So where the block ends is known without searching for what comes
// next, whose 48 bits may also be in the middle of a block.
type bzip2Segment struct {
	src   io.ReaderAt
	size  int64
	at    place
	bits  *bzip2Bits
	unzip io.Reader
	err   error

	after place
	more  bool
}

func openBzip2(src io.ReaderAt, size int64, at place) (segment, error) {
	s := &bzip2Segment{src: src, size: size, err: io.EOF}
	if at == (place{}) {
		var ok bool
		var err error
		if at, ok, err = s.find(at); err != nil || !ok {
			return s, err
		}
	}
	if level := at.aux & bzip2Level; level < 1 || level > 9 {
		return nil, bzip2Corrupt(max(0, at.in), "no block can begin here")
	}
	// Of a block, 81 bits: magic, checksum, and whether it was made random.
	random, err := s.number(at.in+80, 1)
	if err != nil {
		return nil, err
	}
	if random != 0 {
		return nil, &Error{
			Pos: at.in / 8, Err: ErrUnsupported, Reason: "a block is of a kind that bzip2 wrote before 1997",
			Hint: "Pack it again: bzip2 -dc FILE | bzip2 > NEW",
		}
	}
	s.at, s.err = at, nil
	s.bits = &bzip2Bits{
		src: src, size: size, pos: at.in / 8, shift: uint(at.in % 8),
		head: []byte{'B', 'Z', 'h', '0' + byte(at.aux&bzip2Level)},
	}
	s.unzip = bzip2.NewReader(s.bits)
	return s, nil
}

// Read gives the unpacked bytes.
func (s *bzip2Segment) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	n, err := s.unzip.Read(p)
	if n > 0 {
		s.bits.ended = true
	}
	switch {
	case err == nil:
	case s.bits.err != nil:
		s.err = s.bits.err
	case errors.Is(err, errBlockEnd):
		s.err = s.end()
	default:
		s.err = bzip2Corrupt(s.at.in, "a block's checksum differs or it can't be unpacked")
	}
	return n, s.err
}

func (s *bzip2Segment) next() (place, bool) { return s.after, s.more }

func (s *bzip2Segment) close() { s.bits, s.unzip, s.err = nil, nil, io.EOF }

// end finds what follows the block: it begins in the last byte that the decoder
// took, or right after it.
func (s *bzip2Segment) end() error {
	sum, err := s.number(s.at.in+48, 32)
	if err != nil {
		return err
	}
	aux := s.at.aux&bzip2Level | int64(bits.RotateLeft32(uint32(s.at.aux>>bzip2SumShift), 1)^uint32(sum))<<bzip2SumShift
	last := s.at.in + 8*s.bits.given
	for pos := last - 7; pos <= last; pos++ {
		magic, err := s.number(pos, 48)
		if err != nil {
			return err
		}
		if magic == bzip2Block || magic == bzip2End {
			s.after, s.more, err = s.find(place{pos, aux})
			if err == nil {
				err = io.EOF
			}
			return err
		}
	}
	return bzip2Corrupt(last, "neither a block nor the stream's end follows a block")
}

// find returns the first block at or after a place, aux being 0 where no stream has
// begun; ok is false at the end of the file.
func (s *bzip2Segment) find(at place) (found place, ok bool, err error) {
	for {
		if at.aux == 0 {
			if at, ok, err = s.header(at.in / 8); err != nil || !ok {
				return place{}, false, err
			}
		}
		magic, err := s.number(at.in, 48)
		if err != nil {
			return place{}, false, err
		}
		if magic == bzip2Block {
			return at, true, nil
		}
		if magic != bzip2End {
			return place{}, false, bzip2Corrupt(at.in, "neither a block nor the stream's end is here")
		}
		sum, err := s.number(at.in+48, 32)
		if err != nil {
			return place{}, false, err
		}
		if sum != uint64(at.aux>>bzip2SumShift) {
			return place{}, false, bzip2Corrupt(at.in, "a stream's checksum differs")
		}
		at = place{in: (at.in + 80 + 7) &^ 7}
	}
}

// header reads the header of a stream, at a byte; ok is false where nothing but
// zeros is left.
func (s *bzip2Segment) header(pos int64) (at place, ok bool, err error) {
	if pos == s.size && pos > 0 {
		return place{}, false, nil
	}
	var head [4]byte
	have := head[:min(int64(len(head)), s.size-pos)]
	if err := readExact(s.src, s.size, have, pos); err != nil {
		return place{}, false, err
	}
	n := min(len(have), len(bzip2Magic))
	if string(have[:n]) != bzip2Magic[:n] {
		return place{}, false, s.zeros(pos)
	}
	if len(have) < len(head) {
		return place{}, false, io.ErrUnexpectedEOF
	}
	level := int64(head[3]) - '0'
	if level < 1 || level > 9 {
		return place{}, false, bzip2Corrupt(8*pos, "isn't bzip2 from here on")
	}
	return place{8 * (pos + 4), level}, true, nil
}

// zeros makes sure that there is nothing but zeros, as of a tape's block.
func (s *bzip2Segment) zeros(pos int64) error {
	buf := make([]byte, 32<<10)
	for begin := pos; pos < s.size; {
		p := buf[:min(int64(len(buf)), s.size-pos)]
		if err := readExact(s.src, s.size, p, pos); err != nil {
			return err
		}
		for _, b := range p {
			if b != 0 || begin == 0 {
				return bzip2Corrupt(8*begin, "isn't bzip2 from here on")
			}
		}
		pos += int64(len(p))
	}
	return nil
}

// number reads n bits, at most 56.
func (s *bzip2Segment) number(pos, n int64) (uint64, error) {
	var b [8]byte
	if err := readExact(s.src, s.size, b[:(pos%8+n+7)/8], pos/8); err != nil {
		return 0, err
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v << (pos % 8) >> (64 - n), nil
}

// bzip2Bits makes a stream of its own of the bits as of a block's beginning.
type bzip2Bits struct {
	src   io.ReaderAt
	size  int64
	pos   int64
	shift uint
	head  []byte // comes before the bits
	given int64  // bytes after the head
	ended bool   // the block is over
	err   error  // of the source

	left []byte // read, from before pos
	last byte   // whose bits past shift aren't given yet
	buf  [16 << 10]byte
}

// ReadByte keeps the decoder from reading ahead.
func (b *bzip2Bits) ReadByte() (byte, error) {
	if len(b.head) > 0 {
		c := b.head[0]
		b.head = b.head[1:]
		return c, nil
	}
	if b.ended {
		return 0, errBlockEnd
	}
	if b.given == 0 && b.shift > 0 {
		if !b.fill() {
			return 0, b.err
		}
		b.last, b.left = b.left[0], b.left[1:]
	}
	if len(b.left) == 0 && !b.fill() {
		return 0, b.err
	}
	c := b.left[0]
	b.left = b.left[1:]
	b.given++
	if b.shift == 0 {
		return c, nil
	}
	c, b.last = b.last<<b.shift|c>>(8-b.shift), c
	return c, nil
}

// Read is there for bzip2.NewReader, which takes ReadByte instead.
func (b *bzip2Bits) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := b.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

func (b *bzip2Bits) fill() bool {
	if b.err != nil {
		return false
	}
	p := b.buf[:min(int64(len(b.buf)), b.size-b.pos)]
	if len(p) == 0 {
		b.err = io.ErrUnexpectedEOF
		return false
	}
	if b.err = readExact(b.src, b.size, p, b.pos); b.err != nil {
		return false
	}
	b.pos, b.left = b.pos+int64(len(p)), p
	return true
}

// bzip2Corrupt takes a position in bits.
func bzip2Corrupt(pos int64, reason string) error {
	return &Error{Pos: pos / 8, Err: ErrCorrupt, Reason: reason}
}
