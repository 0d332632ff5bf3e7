package fs

import (
	"errors"
	"strings"
)

// Errors of mounting and unmounting. Compare with errors.Is.
var (
	// ErrMountpoint: the mountpoint can't be used as it is.
	ErrMountpoint = errors.New("not usable as a mountpoint")
	// ErrOverlap: two of REPO, index and MOUNT lie in each other.
	ErrOverlap = errors.New("folders overlap")
	// ErrOption: a mount option that isn't known, or has a bad value.
	ErrOption = errors.New("bad mount option")
	// ErrNoHelper: fusermount3 is needed and not there.
	ErrNoHelper = errors.New("fusermount3 not found")
	// ErrNotAllowed: the system doesn't let this user mount like this.
	ErrNotAllowed = errors.New("not allowed")
	// ErrBusy: something still uses the mount; the Error has Holders.
	ErrBusy = errors.New("busy")
	// ErrNotMounted: nothing of ours is mounted there.
	ErrNotMounted = errors.New("no rbdbackupfs is mounted there")
	// ErrNoAnswer: a mount is there, and its process doesn't answer.
	ErrNoAnswer = errors.New("the mounted file system doesn't answer")
)

// An Error says what was tried on which path, why it went wrong, and the cure.
type Error struct {
	Op      string   // "mount", "unmount", "check"
	Path    string   // absolute where it could be made so
	Hint    string   // what to do, one line, or empty
	Holders []Holder // with ErrBusy: who uses the mount
	Err     error
}

// Error is one line, and one more for each holder.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op + " " + e.Path + ": " + e.Err.Error())
	if e.Hint != "" {
		b.WriteString(". " + e.Hint)
	}
	for _, holder := range e.Holders {
		b.WriteString("\n  " + holder.String())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
