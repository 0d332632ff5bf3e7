package repo

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// What can be wrong with a file of the repository. Compare with errors.Is.
var (
	// ErrChanged: the file at this path is not the one that was pinned, or its
	// contents were changed in place.
	ErrChanged = errors.New("file has changed since it was indexed")
	// ErrGone: there is no such file or folder any more.
	ErrGone = errors.New("file is gone")
	// ErrNotRegular: the path leads to, or through, something that is not a
	// regular file: a folder, a symbolic link, a socket, a pipe or a device.
	ErrNotRegular = errors.New("not a regular file")
)

// An Error says what was being done to which file, and what helps.
// Its chain holds the operating system's error (a unix.Errno), and ErrChanged,
// ErrGone, ErrNotRegular or io.ErrUnexpectedEOF where one of them fits.
type Error struct {
	Op   string // "open", "read", "list", ...
	Path string // absolute
	Hint string // what to do about it, one line; may be empty
	Err  error
}

// Error is one line without the hint, which is shown in its own place.
func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A cause is one of the package's sentinels together with the system's error.
type cause struct {
	kind error
	sys  error
}

func (c *cause) Error() string   { return c.kind.Error() + " (" + c.sys.Error() + ")" }
func (c *cause) Unwrap() []error { return []error{c.kind, c.sys} }

// classify adds the sentinel that fits to an error of the system.
func classify(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		return &cause{kind: ErrGone, sys: err}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR),
		errors.Is(err, unix.ENXIO):
		return &cause{kind: ErrNotRegular, sys: err}
	default:
		return err
	}
}

// hint is the cure for an error, for people.
func hint(err error) string {
	switch {
	case errors.Is(err, ErrChanged):
		return "wait until it has been indexed again, or put the original file back"
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOTCONN):
		return "mount the repository's file system again"
	case errors.Is(err, ErrGone):
		return "put the file back if it is still needed"
	case errors.Is(err, ErrNotRegular):
		return "put a regular file there"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "copy the file here again, it was cut off"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "let the user that runs rbdbackupfs read it (chmod, chown or setfacl; search permission on folders)"
	case errors.Is(err, unix.EMFILE):
		return "raise the limit of open files (ulimit -n, LimitNOFILE=)"
	case errors.Is(err, unix.ENFILE):
		return "raise the system's limit of open files (sysctl fs.file-max)"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.ETIMEDOUT):
		return "look into the kernel's log (dmesg) and check the disk or the network"
	default:
		return ""
	}
}

// reasonOf is an error of the system in words, without path or wrapping.
func reasonOf(err error) string {
	var c *cause
	if errors.As(err, &c) {
		err = c.sys
	}
	return strings.ToLower(err.Error())
}
