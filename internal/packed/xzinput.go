package packed

import (
	"hash"
	"io"
)

// An xzInput reads a file from any position. It never gives io.EOF: nothing in the
// format ends with the file.
type xzInput struct {
	src  io.ReaderAt
	size int64
	off  int64 // after what is in left
	left []byte
	buf  []byte
	one  [1]byte
	sum  hash.Hash // of what is taken; may be nil
	err  error     // of the source
}

func (in *xzInput) seek(pos int64) {
	if ahead := pos - in.pos(); ahead >= 0 && ahead <= int64(len(in.left)) {
		in.left = in.left[ahead:]
		return
	}
	in.off, in.left = pos, nil
}

func (in *xzInput) pos() int64 { return in.off - int64(len(in.left)) }

// Read gives what is at hand, at least one byte.
func (in *xzInput) Read(p []byte) (int, error) {
	if len(in.left) == 0 {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.left)
	in.left = in.left[n:]
	if in.sum != nil {
		in.sum.Write(p[:n]) // of a hash: never fails
	}
	return n, nil
}

// ReadByte gives the next byte.
func (in *xzInput) ReadByte() (byte, error) {
	_, err := in.Read(in.one[:])
	return in.one[0], err
}

func (in *xzInput) full(p []byte) error {
	_, err := io.ReadFull(in, p)
	return err
}

func (in *xzInput) fill() error {
	if in.err != nil {
		return in.err
	}
	if in.off < 0 || in.off >= in.size {
		in.err = io.ErrUnexpectedEOF
		return in.err
	}
	if in.buf == nil {
		in.buf = make([]byte, xzBuffer)
	}
	p := in.buf[:min(xzBuffer, in.size-in.off)]
	if in.err = readExact(in.src, in.size, p, in.off); in.err != nil {
		return in.err
	}
	in.off, in.left = in.off+int64(len(p)), p
	return nil
}
