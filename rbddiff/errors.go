package rbddiff

import (
	"errors"
	"fmt"
)

// The kinds of errors, for errors.Is.
var (
	// ErrIncomplete: the file ends before its end record.
	ErrIncomplete = errors.New("incomplete")
	// ErrCorrupt: the file breaks its format.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnsupported: the file is of a format that this package doesn't read.
	ErrUnsupported = errors.New("unsupported")
	// ErrInvalid: a Writer was given a record that has no place there.
	ErrInvalid = errors.New("invalid record")
)

// An Error says what is wrong with a file, and where.
type Error struct {
	// Pos is the offset in the file, bytes: of the record that is wrong, or
	// of the end of a file that is incomplete.
	Pos int64
	// Reason is what is wrong, one line.
	Reason string
	// Hint is what to do about it, one line.
	Hint string
	// Err is one of the kinds above, or the error of the source or destination.
	Err error
}

// Error is one line, without the hint.
func (e *Error) Error() string {
	return fmt.Sprintf("%v: %s (at byte %d)", e.Err, e.Reason, e.Pos)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// The cures that many reasons share.
const (
	hintIncomplete = "The export was cut off: make it again, or remove the file"
	hintCorrupt    = "rbd doesn't write such files: make the export again, or fetch the file from another copy"
	hintSource     = "Check the disk or the network share that holds the file"
)

// A fault is a broken rule, not yet tied to a place in a file.
type fault struct {
	reason string
	hint   string
}

func faultf(format string, args ...any) *fault {
	return &fault{reason: fmt.Sprintf(format, args...), hint: hintCorrupt}
}

func (f *fault) at(pos int64, kind error) *Error {
	return &Error{Pos: pos, Reason: f.reason, Hint: f.hint, Err: kind}
}

// A Warning is something in a file that is odd but does no harm to its data.
type Warning struct {
	// Pos is the offset in the file, bytes.
	Pos int64
	// Reason is what is odd, one line.
	Reason string
	// Hint is what to do about it, one line; may be empty.
	Hint string
}

// String is one line, without the hint.
func (w Warning) String() string {
	return fmt.Sprintf("%s (at byte %d)", w.Reason, w.Pos)
}

// bytesText is "1 byte" or "7 bytes".
func bytesText(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
