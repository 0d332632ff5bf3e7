package guestfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

var (
	// ErrCorrupt is for what can't be: damaged, or made to deceive.
	ErrCorrupt = errors.New("the file system is damaged there")
	// ErrUnsupported is for what this package doesn't read. The error says what does.
	ErrUnsupported = errors.New("not supported")
	// ErrNone is for bytes that are no file system that is known.
	ErrNone = errors.New("no file system is known by its first bytes")
)

// An Error says what could not be read, in which file system, and where.
type Error struct {
	// Kind is the file system: "ext4", "xfs"; "" where it isn't known.
	Kind string
	// Path is the file in it, "" for the file system itself.
	Path string
	// Offset is where in the file system, in bytes; -1 where that says nothing.
	Offset int64
	// Err is the cause.
	Err error
	// Hint is what to do, one line; may be empty.
	Hint string
}

// Error is one line, the hint last.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Kind != "" {
		b.WriteString(e.Kind + ": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.Offset >= 0 {
		fmt.Fprintf(&b, ", at byte %d of the file system", e.Offset)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// corrupt is an ErrCorrupt at a byte of the file system, -1 for none.
func corrupt(off int64, format string, args ...any) error {
	return &Error{Offset: off, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrCorrupt)}
}

// unsupported is an ErrUnsupported.
func unsupported(format string, args ...any) error {
	return &Error{Offset: -1, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrUnsupported)}
}

// panicked is how errors begin that were panics.
const panicked = "reading it went wrong"

// caught turns a panic of the call that defers it into its error, and says of any
// error which file system and file it is about.
func caught(kind, path string, err *error) {
	if r := recover(); r != nil {
		*err = corrupt(-1, panicked+" (%v)", r)
	}
	if *err == nil || *err == io.EOF {
		return
	}
	e := (*Error)(nil)
	if !errors.As(*err, &e) {
		*err = &Error{Kind: kind, Path: path, Offset: -1, Err: *err}
		return
	}
	if e.Kind == "" {
		e.Kind = kind
	}
	if e.Path == "" {
		e.Path = path
	}
}
