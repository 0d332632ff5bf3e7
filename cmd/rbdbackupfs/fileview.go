package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
)

// A fileView is a snapshot as a file of a mount has it.
type fileView struct {
	file *os.File
	size int64
}

func openFileView(path string, size int64) (*fileView, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%s has %d bytes, and the snapshot %d; try again", path, info.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &fileView{file, size}, nil
}

// ReadAt reads from the mount.
func (v *fileView) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return v.file.ReadAt(p, off)
}

// NextData asks the mount for data. The file's own offset, which that moves, is
// nobody's.
func (v *fileView) NextData(ctx context.Context, off int64) (int64, error) {
	return v.seek(ctx, off, unix.SEEK_DATA)
}

// NextHole asks the mount for a hole.
func (v *fileView) NextHole(ctx context.Context, off int64) (int64, error) {
	return v.seek(ctx, off, unix.SEEK_HOLE)
}

func (v *fileView) seek(ctx context.Context, off int64, whence int) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	at, err := unix.Seek(int(v.file.Fd()), off, whence)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 0, chain.ErrNoData
	case err != nil:
		return 0, &os.PathError{Op: "seek", Path: v.file.Name(), Err: err}
	}
	return at, nil
}

// Close closes the file.
func (v *fileView) Close() error { return v.file.Close() }
