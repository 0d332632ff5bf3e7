package packed

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// An lz4Segment is one block, or all blocks of a frame where they are linked.
type lz4Segment struct {
	src   io.ReaderAt
	size  int64
	begin place
	at    place // of the block that comes next, or of what is there instead
	todo  bool  // the block is one of the segment
	sum   *xxh32

	data   []byte // unpacked and not yet given
	in     []byte
	out    []byte
	window []byte // the last bytes before the block
	err    error

	after place
	more  bool
}

func openLZ4(src io.ReaderAt, size int64, at place) (segment, error) {
	s := &lz4Segment{src: src, size: size, todo: true}
	if at == (place{}) {
		if size == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if at, s.todo, err = s.find(at); err != nil {
			return nil, err
		}
	} else if at.in < 0 || at.aux < 0 || at.aux&lz4IsLegacy == 0 && at.aux&lz4SizeCode < 4 {
		return nil, lz4Corrupt(max(0, at.in), "no block can begin here")
	}
	if !s.todo {
		s.err = io.EOF
		return s, nil
	}
	s.begin, s.at = at, at
	if at.aux&lz4IsFirst != 0 && at.aux&lz4ContentSum != 0 {
		s.sum = newXXH32()
	}
	return s, nil
}

// follow takes over from the segment right before what only all of a frame can
// tell: its checksum. Without it the checksum is passed over, unless the segment
// is the whole frame.
func (s *lz4Segment) follow(before segment) {
	b, ok := before.(*lz4Segment)
	if ok && b.more && b.after == s.begin && s.begin.aux&lz4IsFirst == 0 {
		s.sum = b.sum
	}
}

// Read gives the unpacked bytes.
func (s *lz4Segment) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.todo {
			s.todo, s.err = false, s.unpack()
		} else {
			s.err = s.goOn()
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *lz4Segment) next() (place, bool) { return s.after, s.more }

func (s *lz4Segment) memory() int64 { return int64(cap(s.in) + cap(s.out) + cap(s.window)) }

func (s *lz4Segment) close() {
	giveLZ4(s.in)
	giveLZ4(s.out)
	s.data, s.in, s.out, s.window = nil, nil, nil, nil
}

// lz4Buffers are for blocks: there may be a segment for each 64 KiB.
var lz4Buffers sync.Pool

func takeLZ4(n int64) []byte {
	if b, ok := lz4Buffers.Get().(*[]byte); ok && int64(cap(*b)) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

func giveLZ4(b []byte) {
	if b != nil {
		lz4Buffers.Put(&b)
	}
}

// goOn sees what comes after a block: the segment's end is io.EOF.
func (s *lz4Segment) goOn() error {
	at, more, err := s.find(s.at)
	if err != nil {
		return err
	}
	if more && at == s.at && at.aux&lz4IsLinked != 0 {
		s.todo = true
		return nil
	}
	s.after, s.more = at, more
	return io.EOF
}

// unpack unpacks the block at s.at, and moves on.
func (s *lz4Segment) unpack() error {
	head, err := s.number(s.at.in)
	if err != nil {
		return err
	}
	pos, n, aux := s.at.in+4, int64(head), s.at.aux
	stored := false
	if aux&lz4IsLegacy == 0 {
		stored, n = head>>31 != 0, int64(head&^(1<<31))
	}
	if n > lz4Packed(aux) {
		return lz4Corrupt(s.at.in, "a block is larger than its frame allows")
	}
	if n == 0 && !stored {
		return lz4Corrupt(s.at.in, "a block is empty")
	}
	if aux&lz4BlockSum != 0 {
		n += 4
	}
	if n > s.size-pos {
		return io.ErrUnexpectedEOF
	}
	if int64(cap(s.in)) < n {
		giveLZ4(s.in)
		s.in = takeLZ4(n)
	}
	packed := s.in[:n]
	if err := readExact(s.src, s.size, packed, pos); err != nil {
		return err
	}
	if aux&lz4BlockSum != 0 {
		want := binary.LittleEndian.Uint32(packed[n-4:])
		packed = packed[:n-4]
		if xxh32Of(packed) != want {
			return lz4Corrupt(s.at.in, "a block's checksum differs")
		}
	}
	data := packed
	if !stored {
		if s.out == nil {
			s.out = takeLZ4(lz4Unpacked(aux))
		}
		n, err := lz4.UncompressBlockWithDict(packed, s.out, s.window)
		if err != nil {
			return lz4Corrupt(s.at.in, "a block can't be unpacked")
		}
		data = s.out[:n]
	}
	return s.took(data, pos+n)
}

// took takes in the content of a block that ends at pos.
func (s *lz4Segment) took(data []byte, pos int64) error {
	aux := s.at.aux &^ lz4IsFirst
	if aux&lz4HasSize != 0 {
		if int64(len(data)) > aux>>lz4LeftShift {
			return lz4Corrupt(s.at.in, "a frame's content is larger than its header says")
		}
		aux -= int64(len(data)) << lz4LeftShift
	}
	if s.sum != nil {
		s.sum.write(data)
	}
	if aux&lz4IsLinked != 0 {
		keep := max(0, min(len(s.window), lz4Window-len(data)))
		s.window = append(s.window[:0], s.window[len(s.window)-keep:]...)
		s.window = append(s.window, data[max(0, len(data)-lz4Window):]...)
	}
	s.data, s.at = data, place{pos, aux}
	return nil
}
