package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"
)

const (
	probeWait = 5 * time.Second // how long a mounted file system may take to answer
	maxStale  = 16              // stale mounts on one mountpoint
)

// prepareMountpoint returns the resolved path of a mountpoint that can be used,
// after removing stale mounts of ours from it.
func prepareMountpoint(path string, o Options) (string, error) {
	for range maxStale {
		p, err := resolvePlace(path)
		if err != nil {
			return "", mountpointError(absolute(path), err, "")
		}
		entry, mounted := p.mounted()
		if !mounted || entry.fsType != FSType {
			return p.path, checkFolder(p.path, o.nonEmpty)
		}
		if err := cleanStale(p.path, o); err != nil {
			return "", err
		}
	}
	return "", mountpointError(absolute(path), errors.New("too many stale mounts"), "Unmount them: umount -l "+path)
}

// cleanStale unmounts a mount of ours whose process is gone, and reports an
// error if it is alive.
func cleanStale(path string, o Options) error {
	switch err := probe(path, o.Clock); {
	case errors.Is(err, syscall.ENOTCONN):
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{
			Op: "mount", Path: path, Err: ErrNoAnswer,
			Hint: "Is its process stopped? Resume or end it, then unmount: rbdbackupfs umount " + path,
		}
	default:
		return mountpointError(path, errors.New("an rbdbackupfs is mounted there already"),
			"Use it, or unmount it first: rbdbackupfs umount "+path)
	}
	if err := detach(path, o.Clock); err != nil {
		return mountpointError(path, fmt.Errorf("stale mount of a process that is gone: %w", err),
			"Remove it: umount -l "+path)
	}
	o.Logger.Info("removed a stale mount: its process had ended without unmounting", slog.String("mountpoint", path))
	return nil
}

// probe asks the file system at path for an answer. The goroutine of one that
// never answers stays until it does.
func probe(path string, clock *Clock) error {
	ctx, cancel := clock.WithTimeout(context.Background(), probeWait)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		var st syscall.Statfs_t // never answered from the kernel's cache
		answer <- syscall.Statfs(path, &st)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkFolder reports why something can't be mounted on path.
func checkFolder(path string, nonEmpty bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return mountpointError(path, errors.New("no such folder"), "Make it: mkdir -p "+path)
	case errors.Is(err, syscall.ENOTCONN):
		return mountpointError(path, errors.New("a stale mount of another program is there"), "Remove it: umount -l "+path)
	case err != nil:
		return mountpointError(path, err, "")
	case !info.IsDir():
		return mountpointError(path, errors.New("not a folder"), "Name an empty folder")
	case nonEmpty:
		return nil
	}
	return checkEmpty(path)
}

// checkEmpty refuses a folder that holds something, which would be hidden and
// taken for lost. fusermount3 would allow it.
func checkEmpty(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return mountpointError(path, err, "")
	}
	_, err = dir.Readdirnames(1)
	if closeErr := dir.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return mountpointError(path, err, "")
	}
	return mountpointError(path, errors.New("the folder isn't empty; mounting would hide what is in it"),
		"Use an empty folder, or -o nonempty if that is meant")
}

func mountpointError(path string, err error, hint string) error {
	return &Error{Op: "mount", Path: path, Hint: hint, Err: fmt.Errorf("%w: %w", ErrMountpoint, err)}
}
