package rbddiff

import (
	"errors"
	"io"
	"math"
)

// Sizes of the header buffer. The small one holds the longest record that
// isn't skipped or read in pieces (a name and what stands before it).
const (
	smallBuffer = 8 << 10
	largeBuffer = 64 << 10
	// headRead is what is read for the header of one large record.
	headRead = 512
	// densePitch is the distance of records, bytes, below which reading on
	// costs less than a seek and a read per record.
	densePitch = 6 << 10
)

// source reads headers and skips data. Skipping is lazy: nothing is done until
// bytes behind the skipped ones are wanted.
type source struct {
	r    io.Reader
	seek io.Seeker // nil: data is skipped by reading it
	buf  []byte
	lo   int // buf[lo:hi] are the bytes from pos on
	hi   int
	pos  int64 // offset of the next byte to parse
	at   int64 // offset of the next byte that r gives
	end  int64 // bytes from here on don't exist; MaxInt64 when not known
	eof  int64 // where r said io.EOF: the file ends here or before
	err  error // of a read that also gave bytes

	want  int   // bytes to ask of r
	heads int   // records parsed since the last read
	last  int64 // pos at the last read
}

func newSource(r io.Reader) *source {
	s := &source{r: r, end: math.MaxInt64, want: largeBuffer}
	if seeker, ok := r.(io.Seeker); ok {
		// A pipe is an *os.File too: only trying tells.
		if pos, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			s.seek, s.pos, s.at, s.last, s.want = seeker, pos, pos, pos, headRead
		}
	}
	size := smallBuffer
	if s.seek == nil {
		size = largeBuffer
	}
	s.buf = make([]byte, size)
	return s
}

// need makes at least n bytes available, n <= smallBuffer, or says io.EOF.
// What is there of them stays available then.
func (s *source) need(n int) error {
	for s.hi-s.lo < n {
		if err := s.fill(n); err != nil {
			return err
		}
	}
	return nil
}

// bytes are the n next bytes, which need has made available.
func (s *source) bytes(n int) []byte { return s.buf[s.lo : s.lo+n] }

// avail are the bytes that are available.
func (s *source) avail() []byte { return s.buf[s.lo:s.hi] }

// skip moves on by n bytes; the caller has checked that pos can't overflow.
func (s *source) skip(n int64) {
	s.pos += n
	if n <= int64(s.hi-s.lo) {
		s.lo += int(n)
		return
	}
	s.lo, s.hi = 0, 0
}

// fill reads once.
func (s *source) fill(n int) error {
	if s.lo == s.hi {
		if err := s.move(); err != nil {
			return err
		}
	}
	s.adapt()
	s.hi = copy(s.buf, s.buf[s.lo:s.hi])
	s.lo = 0
	want := min(max(s.want, n-(s.hi-s.lo)), len(s.buf)-s.hi)
	got, err := s.read(s.buf[s.hi : s.hi+want])
	s.hi += got
	return err
}

// move brings r to pos.
func (s *source) move() error {
	if s.at == s.pos {
		return nil
	}
	if s.seek == nil {
		return s.discard()
	}
	if s.pos >= s.end {
		s.eof = s.end
		return io.EOF
	}
	if _, err := s.seek.Seek(s.pos, io.SeekStart); err != nil {
		// File systems refuse offsets past their largest file: that too is
		// past the end of this one.
		if end, endErr := s.seek.Seek(0, io.SeekEnd); endErr == nil && end < s.pos {
			s.at, s.eof = end, end
			return io.EOF
		}
		return err
	}
	s.at = s.pos
	return nil
}

// discard reads up to pos. The buffer is empty.
func (s *source) discard() error {
	for s.at < s.pos {
		n := min(s.pos-s.at, int64(len(s.buf)))
		if _, err := s.read(s.buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// adapt chooses how much to read at once by the distance of the records seen
// since the last read. Without seeking all is read anyway.
func (s *source) adapt() {
	if s.seek == nil || s.heads == 0 {
		return
	}
	if pitch := (s.pos - s.last) / int64(s.heads); pitch > densePitch {
		s.want = headRead
	} else if s.want < largeBuffer {
		s.want *= 4
		if s.want > len(s.buf) {
			s.want = largeBuffer
			s.buf = append(make([]byte, 0, largeBuffer), s.buf...)[:largeBuffer]
		}
	}
	s.heads, s.last = 0, s.pos
}

// read gives at least one byte, or an error; io.EOF at the end and nowhere else.
func (s *source) read(p []byte) (int, error) {
	if left := s.end - s.at; int64(len(p)) > left {
		p = p[:max(left, 0)]
	}
	if len(p) == 0 {
		s.eof = s.end
		return 0, io.EOF
	}
	for range 100 {
		err := s.err
		n := 0
		if err == nil {
			n, err = s.r.Read(p)
		}
		s.at += int64(n)
		if n > 0 {
			s.err = err
			return n, nil
		}
		if err != nil {
			s.eof = s.at
			return 0, plainEOF(err)
		}
	}
	return 0, io.ErrNoProgress
}

// plainEOF makes io.EOF of everything that means it: a decompressor's
// io.ErrUnexpectedEOF, and a wrapped io.EOF that a caller could take for ours.
func plainEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

// readInto is Read for payload, past the buffer where that saves a copy.
func (s *source) readInto(p []byte) (int, error) {
	if s.lo == s.hi {
		if err := s.move(); err != nil {
			return 0, err
		}
		if len(p) >= headRead {
			n, err := s.read(p)
			s.pos += int64(n)
			return n, err
		}
		if err := s.fill(1); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.lo:s.hi])
	s.lo += n
	s.pos += int64(n)
	return n, nil
}

// stop says where the file ends, after io.EOF. A read after a seek past the end
// doesn't tell where that is; a file that is growing may end later than it said.
func (s *source) stop() int64 {
	end := min(s.eof, s.end)
	if size, ok := s.size(); ok {
		end = min(end, size)
	}
	return end
}

// size is the offset of the file's end, where seeking tells. It moves r.
func (s *source) size() (int64, bool) {
	if s.seek == nil {
		return 0, false
	}
	size, err := s.seek.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false
	}
	s.at = size
	return size, true
}

// rest is how many bytes follow pos: by the file's size, or by reading them.
// Nothing can be parsed after it.
func (s *source) rest() (int64, error) {
	if size, ok := s.size(); ok {
		return max(min(size, s.end)-s.pos, 0), nil
	}
	for {
		_, err := s.read(s.buf)
		if err == io.EOF {
			return s.at - s.pos, nil
		}
		if err != nil {
			return s.at - s.pos, err
		}
	}
}
