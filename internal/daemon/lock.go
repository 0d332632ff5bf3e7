package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

// An Owner is what the lock file says about the process that holds it.
type Owner struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"` // "mount", "ls"
	Started time.Time `json:"started"`
	// Mountpoint is absolute; empty for a command that will be done soon.
	Mountpoint string `json:"mountpoint,omitempty"`
}

// Mount reports whether the owner is a mount, which lasts, and not a command.
func (o Owner) Mount() bool { return o.Mountpoint != "" }

// A LockedError says who has the index open. errors.Is(err, ErrLocked) holds.
type LockedError struct {
	Dir   string // the index folder, absolute
	Owner Owner  // zero when the lock file doesn't tell
}

// Error names the owner's pid and mountpoint.
func (e *LockedError) Error() string {
	switch {
	case e.Owner.Mount():
		return fmt.Sprintf("the index %s is in use by the mount at %s (pid %d)", e.Dir, e.Owner.Mountpoint, e.Owner.PID)
	case e.Owner.PID != 0:
		return fmt.Sprintf("the index %s is in use by rbdbackupfs %s (pid %d)", e.Dir, e.Owner.Command, e.Owner.PID)
	}
	return fmt.Sprintf("the index %s is in use by another process", e.Dir)
}

// Is makes errors.Is(err, ErrLocked) hold.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// A Lock is held on an index folder, by this process alone, until Release.
type Lock struct {
	dir  string
	file *os.File
}

// Acquire makes the folder dir (mode 0700) if there is none and locks it.
// A mount that holds it gives a *LockedError at once; any other holder is
// waited for until patience is over or ctx ends.
func Acquire(ctx context.Context, dir string, owner Owner, patience time.Duration) (*Lock, error) {
	const hint = "give a folder that can be written to with --index DIR"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &Error{Op: "make the index folder", Path: dir, Hint: hint, Err: err}
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &Error{Op: "open the index folder", Path: dir, Hint: hint, Err: err}
	}
	if err := lockWithin(ctx, file, dir, patience); err != nil {
		return nil, err
	}
	lock := &Lock{dir: dir, file: file}
	if err := lock.write(owner); err != nil {
		return nil, errors.Join(&Error{Op: "write to the index folder", Path: dir, Hint: hint, Err: err}, lock.Release())
	}
	return lock, nil
}

// lockWithin takes over file: it is closed whenever an error comes back.
func lockWithin(ctx context.Context, file *os.File, dir string, patience time.Duration) error {
	err := flock(file, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		if owner := readOwner(file); owner.Mount() {
			return errors.Join(&LockedError{Dir: dir, Owner: owner}, file.Close())
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err = flockContext(ctx, file); errors.Is(err, context.DeadlineExceeded) {
			return &LockedError{Dir: dir, Owner: readOwnerAt(dir)}
		}
		if errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err != nil {
		return errors.Join(&Error{Op: "lock the index folder", Path: dir, Hint: "give a folder on a local disk with --index DIR", Err: err}, file.Close())
	}
	return nil
}

// Holder returns who holds the lock on the index folder dir, false for nobody.
// It never makes the folder.
func Holder(dir string) (Owner, bool) {
	file, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return Owner{}, false
	}
	defer file.Close()
	if flock(file, unix.LOCK_SH|unix.LOCK_NB) == nil {
		return Owner{}, false
	}
	return readOwner(file), true
}

// WaitFree returns once nobody holds the lock on the index folder dir.
func WaitFree(ctx context.Context, dir string) error {
	file, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{Op: "open the lock of", Path: dir, Err: err}
	}
	if err := flockContext(ctx, file); err != nil {
		return err
	}
	return file.Close()
}

// Release gives the lock back.
func (l *Lock) Release() error {
	// Emptied first, so that nobody reads the name of one who is gone.
	return errors.Join(l.file.Truncate(0), l.file.Close())
}

func (l *Lock) write(owner Owner) error {
	text, err := json.Marshal(owner)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = l.file.WriteAt(append(text, '\n'), 0)
	return err
}

// readOwner gives the zero Owner where the file names nobody who is alive:
// a holder that was killed leaves its text behind.
func readOwner(file *os.File) Owner {
	var owner Owner
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 64<<10))
	if err != nil || json.Unmarshal(text, &owner) != nil || owner.PID <= 0 {
		return Owner{}
	}
	if errors.Is(unix.Kill(owner.PID, 0), unix.ESRCH) {
		return Owner{}
	}
	return owner
}

func readOwnerAt(dir string) Owner {
	file, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return Owner{}
	}
	defer file.Close()
	return readOwner(file)
}

func flock(file *os.File, how int) error {
	for {
		if err := unix.Flock(int(file.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// flockContext takes over file when ctx ends first: flock(2) can't be called
// off, so the call goes on and its result is given back when it comes.
func flockContext(ctx context.Context, file *os.File) error {
	done := make(chan error, 1)
	go func() { done <- flock(file, unix.LOCK_EX) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		go func() {
			if <-done == nil {
				file.Close()
			}
		}()
		return ctx.Err()
	}
}
