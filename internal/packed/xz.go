package packed

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// An xzSegment is one block. The LZMA2 in it tells by itself where it ends, so the
// index isn't needed to find blocks, only looked at when the last block is over.
type xzSegment struct {
	in    xzInput
	at    place
	head  xzBlock
	lzma  io.Reader // made by the first Read: it takes much memory
	check hash.Hash
	start int64 // of the LZMA2
	out   int64 // bytes given
	err   error
	after place
	more  bool
}

func openXZ(src io.ReaderAt, size int64, at place) (segment, error) {
	s := &xzSegment{in: xzInput{src: src, size: size}}
	if at == (place{}) {
		var more bool
		var err error
		if at, err = s.header(0); err == nil {
			err = s.whole()
		}
		if err == nil {
			at, more, err = s.find(at)
		}
		if err != nil {
			return nil, err
		}
		if !more {
			s.err = io.EOF
			return s, nil
		}
	} else if at.in < 0 || at.aux < 0 {
		return nil, s.corrupt("no block can begin here")
	}
	check, err := newXZCheck(at)
	if err != nil {
		return nil, err
	}
	s.at, s.check = at, check
	s.in.seek(at.in)
	if s.head, err = s.block(); err != nil {
		return nil, err
	}
	s.start = s.in.pos()
	return s, nil
}

func newXZCheck(at place) (hash.Hash, error) {
	switch at.aux & xzCheck {
	case xzNone:
		// xz finds most damage all the same, by what is left in its decoder at the end
		// of a part. Ours doesn't tell.
		return nil, &Error{
			Pos: at.in, Err: ErrUnsupported, Reason: "has no checksum: damage couldn't be seen",
			Hint: "Pack it again: xz -dc FILE | xz > NEW",
		}
	case xzCRC32:
		return crc32.NewIEEE(), nil
	case xzCRC64:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case xzSHA256:
		return sha256.New(), nil
	}
	return nil, &Error{
		Pos: at.in, Err: ErrUnsupported, Reason: "is checked in a way that only newer versions of xz know",
		Hint: "Pack it again: xz -dc FILE | xz > NEW",
	}
}

// Read gives the unpacked bytes.
func (s *xzSegment) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.lzma == nil {
		if s.lzma, s.err = (lzma.Reader2Config{DictCap: int(s.memory())}).NewReader2(&s.in); s.err != nil {
			return 0, s.err
		}
	}
	n, err := s.lzma.Read(p)
	s.out += int64(n)
	s.check.Write(p[:n]) // of a hash: never fails
	switch {
	case err == nil:
	case s.in.err != nil:
		s.err = s.in.err
	case err == io.EOF:
		if s.err = s.end(); s.err == nil {
			s.err = io.EOF
		}
	default:
		s.err = s.corrupt("a block can't be unpacked")
	}
	return n, s.err
}

// memory is the dictionary. Nothing refers to before the block.
func (s *xzSegment) memory() int64 {
	dict := s.head.dict
	if s.head.unpacked >= 0 {
		dict = min(dict, s.head.unpacked)
	}
	return max(dict, xzMinDict)
}

func (s *xzSegment) next() (place, bool) { return s.after, s.more }

func (s *xzSegment) close() { s.lzma, s.in.buf, s.err = nil, nil, io.EOF }

// end checks what can be checked of a block that is over, and finds the next one.
func (s *xzSegment) end() error {
	packed := s.in.pos() - s.start
	if s.head.packed >= 0 && packed != s.head.packed {
		return s.corrupt("a block is of another size than its header says")
	}
	if s.head.unpacked >= 0 && s.out != s.head.unpacked {
		return s.corrupt("a block unpacks to another size than its header says")
	}
	if err := s.padding(packed, "a block ends in something else than zeros"); err != nil {
		return err
	}
	whole := s.head.size + packed
	got := s.check.Sum(nil)
	if s.at.aux&xzCheck != xzSHA256 {
		slices.Reverse(got) // Go writes CRCs with the high byte first
	}
	want := make([]byte, len(got))
	if err := s.in.full(want); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return s.corrupt("a block's checksum differs")
	}
	whole += int64(len(got))
	aux := s.at.aux&xzCheck | xzDigest(s.at.aux>>xzDigestShift, whole, s.out)<<xzDigestShift
	var err error
	s.after, s.more, err = s.find(place{s.in.pos(), aux})
	return err
}

// find returns the first block at or after a place in a stream; ok is false at the
// end of the file.
func (s *xzSegment) find(at place) (found place, ok bool, err error) {
	for {
		s.in.seek(at.in)
		first, err := s.in.ReadByte()
		if err != nil {
			return place{}, false, err
		}
		if first != 0 {
			return at, true, nil
		}
		if err := s.index(at); err != nil {
			return place{}, false, err
		}
		// Zeros may follow, as many as 4 can be divided by.
		for {
			pos := s.in.pos()
			if pos == s.in.size {
				return place{}, false, nil
			}
			var word [4]byte
			if err := s.in.full(word[:]); err != nil {
				return place{}, false, err
			}
			if word != [4]byte{} {
				if at, err = s.header(pos); err != nil {
					return place{}, false, err
				}
				break
			}
		}
	}
}

func (s *xzSegment) corrupt(reason string) error {
	return &Error{Pos: s.in.pos(), Err: ErrCorrupt, Reason: reason}
}
