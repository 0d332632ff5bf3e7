package packed

import (
	"bufio"
	"errors"
	"io"
)

// A forward reads a file in order, and knows where it stands.
type forward struct {
	*bufio.Reader
	under *io.SectionReader
	start int64
	size  int64
}

func newForward(src io.ReaderAt, at, size int64) *forward {
	under := io.NewSectionReader(src, at, size-at)
	return &forward{bufio.NewReaderSize(under, 128<<10), under, at, size}
}

func (f *forward) pos() int64 {
	read, err := f.under.Seek(0, io.SeekCurrent)
	if err != nil {
		read = 0 // it can't fail
	}
	return f.start + read - int64(f.Buffered())
}

// zeros tells whether nothing but zeros is left, as of a tape's block, and moves
// on to the end then.
func (f *forward) zeros() bool {
	for {
		next, err := f.Peek(1)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if next[0] != 0 {
			return false
		}
		if _, err := f.Discard(1); err != nil {
			return false
		}
	}
}

// skip moves on by n bytes, of which all are there.
func (f *forward) skip(n int64) error {
	if n <= int64(f.Buffered()) {
		_, err := f.Discard(int(n))
		return err
	}
	_, err := f.under.Seek(f.pos()+n-f.start, io.SeekStart)
	f.Reset(f.under)
	return err
}

// readExact fills p with what is at pos. A file that ends before that is
// incomplete.
func readExact(src io.ReaderAt, size int64, p []byte, pos int64) error {
	if pos < 0 || pos > size || int64(len(p)) > size-pos {
		return io.ErrUnexpectedEOF
	}
	n, err := src.ReadAt(p, pos)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
