package target

import (
	"context"
	"errors"
	"strings"
	"syscall"
)

// An Error says what a restore could not do, on which image, and the cure.
type Error struct {
	// Op is what was tried: "create", "write", "snapshot".
	Op string
	// Name is the image, or the pool.
	Name string
	// Errno is what the writer of the stream is told.
	Errno syscall.Errno
	// Err is the cause in words. It may be nil, Errno's own text is used then.
	Err error
	// Hint is what to do, one line; may be empty.
	Hint string
	// Silent says that the target doesn't answer: whatever is asked of it next
	// would wait as long again.
	Silent bool
}

// Error is one line, the hint last.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Name != "" {
		b.WriteString(" " + e.Name)
	}
	b.WriteString(": ")
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(e.Errno.Error())
	}
	if e.Hint != "" {
		b.WriteString(". " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause, and never Errno: the errno of a cause may be about
// something else, such as a backup file.
func (e *Error) Unwrap() error { return e.Err }

// ErrnoOf is what to tell the writer: that of the outermost *Error, EINTR for a
// context that ended, and EIO for anything else; 0 for nil.
func ErrnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e := (*Error)(nil); errors.As(err, &e) && e.Errno != 0 {
		return e.Errno
	}
	if errors.Is(err, context.Canceled) {
		return syscall.EINTR
	}
	return syscall.EIO
}

// IsSilent tells whether err is an *Error of a target that doesn't answer.
func IsSilent(err error) bool {
	e := (*Error)(nil)
	return errors.As(err, &e) && e.Silent
}

// HasErrno tells whether err is an *Error with that errno.
func HasErrno(err error, errno syscall.Errno) bool {
	e := (*Error)(nil)
	return errors.As(err, &e) && e.Errno == errno
}
