package restore

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// errReleased: the file was closed for the last time.
var errReleased = errors.New("the file was closed before all of it was written")

// errLeft: there was no use in trying to undo it.
var errLeft = errors.New("it is undone once the target answers")

// errClosed: the manager was closed.
var errClosed = errors.New("the mount ended before all of it was written")

// refuse makes the error of a restore that is refused, or has failed, for a
// reason of its own.
func refuse(name target.Name, errno syscall.Errno, hint, format string, args ...any) error {
	return &target.Error{Op: "restore", Name: name.String(), Errno: errno, Err: fmt.Errorf(format, args...), Hint: hint}
}

// streamError tells what is wrong with an export that is being written: EBADMSG
// for one that is broken or cut off, EINVAL for a format that isn't read.
func streamError(name target.Name, err error) error {
	broken := (*rbddiff.Error)(nil)
	if !errors.As(err, &broken) {
		return err
	}
	errno := syscall.EBADMSG
	switch {
	case errors.Is(err, errReleased), errors.Is(err, errClosed), isTarget(err):
		return broken.Err // the feed ended; the format is not to blame
	case errors.Is(err, rbddiff.ErrUnsupported):
		errno = syscall.EINVAL
	}
	return &target.Error{Op: "restore", Name: name.String(), Errno: errno, Err: broken, Hint: broken.Hint}
}

func isTarget(err error) bool {
	e := (*target.Error)(nil)
	return errors.As(err, &e) || errors.Is(err, context.Canceled)
}
