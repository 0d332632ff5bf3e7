package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"syscall"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/overlay"
)

// An errnoRule maps one kind of error to what the kernel is told.
type errnoRule struct {
	is    error
	errno syscall.Errno
	level slog.Level
}

// levelNone is for what is no error to anybody but the caller.
const levelNone = slog.LevelDebug

// errnoRules is the whole mapping; the first match counts, and whatever matches
// nothing is EIO. A backup file that is missing is an I/O error of the entry
// that needs it, so that comes first: ENOENT is for names that aren't there.
func errnoRules() []errnoRule {
	return []errnoRule{
		{errBytes, syscall.EIO, slog.LevelError},
		{iofs.ErrNotExist, syscall.EIO, slog.LevelError},
		{chain.ErrDamaged, syscall.EIO, slog.LevelError},
		{errGone, syscall.ESTALE, levelNone},
		{overlay.ErrChanged, syscall.ESTALE, slog.LevelWarn},
		{overlay.ErrLimit, syscall.ENOSPC, slog.LevelWarn},
		{overlay.ErrFailed, syscall.EIO, slog.LevelError},
		{overlay.ErrBusy, syscall.EBUSY, levelNone},
		{overlay.ErrRange, syscall.EFBIG, levelNone},
		{syscall.ENOSPC, syscall.ENOSPC, slog.LevelWarn},
		{syscall.EDQUOT, syscall.EDQUOT, slog.LevelWarn},
		{chain.ErrNotFound, syscall.ENOENT, levelNone},
		{chain.ErrNoData, syscall.ENXIO, levelNone},
		{chain.ErrPending, syscall.EAGAIN, slog.LevelInfo},
		{context.DeadlineExceeded, syscall.EAGAIN, slog.LevelInfo},
		{context.Canceled, syscall.EINTR, levelNone},
	}
}

// errGone wraps chain.ErrNotFound of an entry that the kernel still had. ESTALE
// makes the kernel look it up again, once.
var errGone = errors.New("the entry is gone")

// errBytes wraps whatever keeps an open image's bytes from being read.
var errBytes = errors.New("the bytes can't be read")

// errShort is a View that broke its promise.
var errShort = errors.New("fewer bytes than asked for, and no error")

// classify looks an error up in the table.
func classify(err error) (syscall.Errno, slog.Level) {
	for _, rule := range errnoRules() {
		if errors.Is(err, rule.is) {
			return rule.errno, rule.level
		}
	}
	return syscall.EIO, slog.LevelError
}

// errno maps err, and logs its cause: nothing below does.
func (t *tree) errno(op string, at location, err error) syscall.Errno {
	if err == nil {
		return 0
	}
	errno, level := classify(err)
	if level > levelNone {
		t.limit.log(level, at.key(), "request ended in an error",
			slog.String("op", op), slog.String("image", at.image), slog.String("snapshot", at.snapshot),
			slog.Int64("offset", at.offset), slog.String("errno", errno.Error()), slog.Any("error", err))
	}
	return errno
}

// A location says what a request was about.
type location struct {
	image    string
	snapshot string
	offset   int64 // byte of the image, -1 where there is none
}

// key is the same for everything that is told of one snapshot.
func (l location) key() string { return l.image + "\x00" + l.snapshot }
