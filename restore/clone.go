package restore

import (
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// clonePiece is how much is copied between two looks at the context, bytes.
const clonePiece = 64 << 20

// cloneFile copies a file to a new one, with its holes, mode and owner: by sharing
// its blocks where the file system can, else within the kernel.
func cloneFile(ctx context.Context, src *os.File, path string, size int64) (_ *os.File, err error) {
	info, err := src.Stat()
	if err != nil {
		return nil, err
	}
	dst, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dst.Close(), os.Remove(path))
		}
	}()
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		// Who may write there may not always give files away.
		if err := dst.Chown(int(owner.Uid), int(owner.Gid)); err != nil && !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
	if err := dst.Chmod(info.Mode().Perm()); err != nil {
		return nil, err
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return dst, nil
	}
	if err := dst.Truncate(size); err != nil {
		return nil, err
	}
	return dst, dataOf(src, size, func(off, n int64) error { return copyData(ctx, dst, src, off, n) })
}

// copyData copies [off, off+n) from one file to the same place of another.
func copyData(ctx context.Context, dst, src *os.File, off, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, to := off, off
		copied, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, int(min(n, clonePiece)), 0)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		case copied == 0:
			return errors.New("the file became shorter while it was copied")
		}
		off, n = off+int64(copied), n-int64(copied)
	}
	return nil
}

// dataOf calls visit with the ranges of a file that aren't holes.
func dataOf(f *os.File, size int64, visit func(off, n int64) error) error {
	for off := int64(0); off < size; {
		data, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, size)
		if data >= hole {
			return nil
		}
		if err := visit(data, hole-data); err != nil {
			return err
		}
		off = hole
	}
	return nil
}
