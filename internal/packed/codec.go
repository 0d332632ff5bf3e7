package packed

import (
	"errors"
	"fmt"
	"io"
)

// A Codec is a compression.
type Codec string

// The codecs. Tar is none, but an archive that holds one file.
const (
	Gzip  Codec = "gzip"  // RFC 1952, with any number of members; bgzf is that
	Zstd  Codec = "zstd"  // RFC 8878, with any number of frames
	LZ4   Codec = "lz4"   // LZ4 frame, also the legacy one of `lz4 -l`
	XZ    Codec = "xz"    // .xz, with any number of streams and blocks
	Bzip2 Codec = "bzip2" // .bz2, with any number of streams
	Tar   Codec = "tar"
)

// Errors that tell what is wrong with a compressed file. Compare with errors.Is.
var (
	// ErrIncomplete: the file ends early.
	ErrIncomplete = errors.New("incomplete")
	// ErrCorrupt: the file breaks its format, or a checksum differs.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnsupported: the format allows this, and this package doesn't.
	ErrUnsupported = errors.New("not supported")
)

// An Error is what is wrong with a compressed file, and where.
type Error struct {
	Pos    int64 // byte in the compressed file near which it is
	Err    error // one of the above
	Reason string
	Hint   string // what to do, one line; may be empty
}

// Error is one line.
func (e *Error) Error() string { return fmt.Sprintf("%s (at byte %d)", e.Reason, e.Pos) }

// Unwrap returns the kind of the error.
func (e *Error) Unwrap() error { return e.Err }

// maxWindow bounds the memory that one file can ask for, bytes: what zstd, xz
// and the others use at their highest levels, unless told otherwise.
const maxWindow = 128 << 20

// A place is where a segment begins: a part of a file that can be unpacked
// without anything before it.
type place struct {
	in  int64 // byte in the file; of bzip2, bit
	aux int64 // what else the codec has to know there, such as flags of a header before it
}

// A segment is one part. After io.EOF, next is where the next one begins; ok is
// false at the end of the file. Bytes that come from a source are never taken
// from outside of [0, size).
type segment interface {
	// Read gives the unpacked bytes. Errors: io.EOF at the segment's end, *Error,
	// io.ErrUnexpectedEOF where the file ends within it; anything else that isn't
	// the source's means that it is corrupt.
	io.Reader
	next() (at place, ok bool)
	// close gives back what the segment holds.
	close()
}

// A follower is a segment that can check more when it is told of the one before.
type follower interface{ follow(before segment) }

// A renewer is a segment that, when it is over, can become the one after it, and
// keep its buffers. It is false where that has to be opened.
type renewer interface {
	renew(at place) (bool, error)
}

// A heavy segment takes much memory, bytes, from its first Read on until it is closed.
type heavy interface{ memory() int64 }

// An opener begins a segment. The first one of a file is at the zero place.
type opener func(src io.ReaderAt, size int64, at place) (segment, error)

func openers() map[Codec]opener {
	return map[Codec]opener{
		Gzip: openGzip, Zstd: openZstd, LZ4: openLZ4, XZ: openXZ, Bzip2: openBzip2, Tar: openPlain,
	}
}
