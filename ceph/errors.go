//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"rbdbackupfs/internal/target"
)

// Causes that librbd's errno doesn't say by itself.
var (
	errSilent  = errors.New("the cluster doesn't answer")
	errFull    = errors.New("the pool is full, or has reached its quota")
	errGone    = errors.New("the image, or its pool, was removed")
	errFenced  = errors.New("the cluster has shut this client out (blocklisted)")
	errNoWrite = errors.New("the image can't be written: another client has its lock, or it mirrors another cluster's")
	errDenied  = errors.New("the user may not do this")
	errShort   = errors.New("less was written than asked for")
)

// failure makes of a librbd error what the writer of a stream is told. What
// already is a *target.Error stays. A quota is taken for the pool's: that of
// snapshots is snapshotFailure's.
func failure(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if typed := (*target.Error)(nil); errors.As(err, &typed) {
		return err
	}
	e := &target.Error{Op: op, Name: name, Errno: syscall.EIO, Err: err}
	switch {
	case errors.Is(err, context.Canceled):
		e.Errno = syscall.EINTR
		return e
	case errors.Is(err, context.DeadlineExceeded):
		e.Err = fmt.Errorf("%w: %w", errSilent, err)
		e.Hint, e.Silent = silentHint, true
		return e
	}
	errno := errnoOf(err)
	because := func(as syscall.Errno, cause error, hint string) {
		e.Errno, e.Err, e.Hint = as, fmt.Errorf("%w: %w", cause, errno), hint
	}
	switch errno {
	case 0:
	case syscall.ETIMEDOUT:
		because(syscall.EIO, errSilent, silentHint)
		e.Silent = true
	case syscall.ENOSPC, syscall.EDQUOT:
		because(syscall.ENOSPC, errFull, fullHint)
	case syscall.ESHUTDOWN:
		because(syscall.EIO, errFenced, "See `ceph osd blocklist ls`, and start again")
	case syscall.EROFS:
		because(syscall.EROFS, errNoWrite, "See `rbd status` and `rbd lock ls`")
	case syscall.EPERM, syscall.EACCES:
		because(syscall.EPERM, errDenied, "It needs the caps mon 'profile rbd' and osd 'profile rbd': see `ceph auth get`")
	default:
		e.Errno, e.Err = errno, errno
	}
	return e
}

const (
	silentHint = "See `ceph -s`"
	fullHint   = "See `ceph df` and `ceph osd pool get-quota`"
)

// dataFailure is failure for what is done with an image that is open: something
// missing is the image itself.
func dataFailure(op, name string, err error) error {
	if errnoOf(err) == syscall.ENOENT {
		err = &target.Error{
			Op: op, Name: name, Errno: syscall.EIO, Err: fmt.Errorf("%w: %w", errGone, syscall.ENOENT), Hint: "See `rbd info`",
		}
	}
	return failure(op, name, err)
}

// errnoOf returns the errno in an error of librados or librbd; 0 when there is none.
func errnoOf(err error) syscall.Errno {
	var coded interface{ ErrorCode() int }
	if errors.As(err, &coded) {
		code := coded.ErrorCode()
		return syscall.Errno(max(code, -code))
	}
	errno := syscall.Errno(0)
	_ = errors.As(err, &errno)
	return errno
}
