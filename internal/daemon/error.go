package daemon

import "errors"

// Errors of this package. Compare with errors.Is.
var (
	// ErrLocked: another process has the index open; the error is a *LockedError.
	ErrLocked = errors.New("in use")
	// ErrNotRunning: nobody listens on the socket.
	ErrNotRunning = errors.New("no rbdbackupfs is running")
)

// An Error says which operation went wrong on which path, and what to do next.
type Error struct {
	Op   string // what was done, such as "open the index folder"
	Path string // absolute
	Hint string // what to do next, or empty
	Err  error
}

// Error gives one line without the hint, which is shown in its own place.
func (e *Error) Error() string { return e.Op + " " + e.Path + ": " + cause(e.Err).Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// cause drops the layers that would repeat the path in a message.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
