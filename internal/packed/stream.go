package packed

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A stream gives what segments unpack to, in order, to the end of the file.
type stream struct {
	codec Codec
	open  opener
	src   *watched
	size  int64

	at    place
	seg   segment
	last  segment                   // closed, right before seg; nil for none
	begun func(at place, out int64) // is told of each segment; may be nil
	room  func(n int64) error       // is asked before a segment takes n bytes of memory; may be nil
	out   int64                     // bytes given so far, from the file's beginning
	err   error
}

// A watched source remembers what reading it came to: decoders hide that.
type watched struct {
	src io.ReaderAt
	err error
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.src.ReadAt(p, off)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// newStream begins at a place, and out bytes after the beginning.
func newStream(codec Codec, src io.ReaderAt, size int64, at place, out int64) (*stream, error) {
	open := openers()[codec]
	if open == nil {
		return nil, fmt.Errorf("no codec %q", codec)
	}
	return &stream{codec: codec, open: open, src: &watched{src: src}, size: size, at: at, out: out}, nil
}

// Read fills p as far as the current segment does.
func (s *stream) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.seg == nil {
			if s.err = s.begin(); s.err != nil {
				break
			}
		}
		n, err := s.seg.Read(p)
		s.out += int64(n)
		if err == io.EOF {
			err = s.end()
		}
		s.err = s.explain(err)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, s.err
}

func (s *stream) begin() error {
	seg, err := s.next()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // there is a segment, and nothing of it
	}
	if err != nil {
		return s.explain(err)
	}
	s.seg = seg
	if s.room != nil {
		if err := s.room(s.memory()); err != nil {
			return err
		}
	}
	if f, ok := seg.(follower); ok && s.last != nil {
		f.follow(s.last)
	}
	if s.begun != nil {
		s.begun(s.at, s.out)
	}
	return nil
}

// next is the segment at s.at.
func (s *stream) next() (segment, error) {
	if r, ok := s.last.(renewer); ok {
		if done, err := r.renew(s.at); done {
			return s.last, err
		}
	}
	return s.open(s.src, s.size, s.at)
}

// end goes on to the next segment.
func (s *stream) end() error {
	next, more := s.seg.next()
	s.last = s.seg
	s.close()
	if !more {
		return io.EOF
	}
	if next.in <= s.at.in {
		return errNoEnd
	}
	s.at = next
	return nil
}

var errNoEnd = errors.New("it has no end")

// pos is the byte at which the current segment begins.
func (s *stream) pos() int64 {
	pos := s.at.in
	if s.codec == Bzip2 {
		pos /= 8
	}
	return min(pos, s.size)
}

// memory is how much the current segment holds or will hold, bytes, as far as that
// is much.
func (s *stream) memory() int64 {
	if seg, ok := s.seg.(heavy); ok {
		return seg.memory()
	}
	return 0
}

func (s *stream) close() {
	if s.seg != nil {
		s.seg.close()
		s.seg = nil
	}
}

// explain makes an *Error of what isn't the source's.
func (s *stream) explain(err error) error {
	var known *Error
	switch {
	case s.src.err != nil:
		return s.src.err
	case err == nil, err == io.EOF, errors.As(err, &known):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return incomplete(s.size, "the compressed file")
	}
	return &Error{Pos: s.pos(), Err: ErrCorrupt, Reason: fmt.Sprintf("the part that begins here can't be unpacked: %v", err)}
}

func incomplete(size int64, what string) *Error {
	return &Error{Pos: size, Err: ErrIncomplete, Reason: what + " ends early", Hint: "The file was cut off: copy it again, or make the export again"}
}

// A member is the one file in a tar archive.
type member struct {
	tar  *tar.Reader
	from *stream
	skip int64 // where it begins
}

const tarHint = "Unpack it first: tar -xf FILE"

func newMember(from *stream) (*member, error) {
	m := &member{tar: tar.NewReader(from), from: from}
	for {
		head, err := m.tar.Next()
		if err != nil {
			return nil, m.explain(err, "holds no file")
		}
		if head.Typeflag == tar.TypeDir {
			continue
		}
		if head.Typeflag != tar.TypeReg || isSparse(head) {
			return nil, &Error{Err: ErrUnsupported, Reason: fmt.Sprintf("the archive holds %q, which isn't an ordinary file without holes", head.Name), Hint: tarHint}
		}
		m.skip = from.out
		return m, nil
	}
}

// isSparse tells whether a file has holes, in any of the ways that tar writes them.
func isSparse(head *tar.Header) bool {
	for key := range head.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// explain makes an *Error of what isn't one of the stream.
func (m *member) explain(err error, atEnd string) error {
	switch {
	case m.from.err != nil && m.from.err != io.EOF:
		return m.from.err
	case errors.Is(err, io.EOF):
		return &Error{Err: ErrUnsupported, Reason: "the archive " + atEnd, Hint: tarHint}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return incomplete(m.from.size, "the archive")
	}
	return &Error{Err: ErrCorrupt, Reason: "the archive can't be read", Hint: tarHint}
}

// Read gives the next bytes, and at the end makes sure that there is no other file.
func (m *member) Read(p []byte) (int, error) {
	n, err := m.tar.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return 0, m.explain(err, "")
	}
	head, err := m.tar.Next()
	if err == nil {
		return 0, &Error{Err: ErrUnsupported, Reason: fmt.Sprintf("the archive holds several files, such as %q", head.Name), Hint: tarHint}
	}
	if !errors.Is(err, io.EOF) {
		return 0, m.explain(err, "")
	}
	// What follows is padding. Reading it to the end has the checksums looked at.
	if _, err := io.Copy(io.Discard, m.from); err != nil {
		return 0, err
	}
	return 0, io.EOF
}
