package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/target"
)

// fileParallel is how many writes to a file are under way at once: two keep a
// disk busy while the next bytes come.
const fileParallel = 4

// A fileImage is an image in a raw file.
type fileImage struct {
	d     *Folder
	job   *target.Job
	f     *os.File // the temporary file once there is one, else the image's own
	temp  bool     // f has its temporary name
	named bool     // f was temporary and has its own name now
	size  int64

	past     memory // what the image's own file remembers
	snapshot string // that the bytes are at; empty when they have changed since
	changed  atomic.Bool
}

var _ target.Image = (*fileImage)(nil)

// Size is the file's.
func (g *fileImage) Size() int64 { return g.size }

// Hints are those of a file system: holes are worth the smallest block.
func (g *fileImage) Hints() target.Hints {
	return target.Hints{Chunk: bufferSize, Parallel: fileParallel, ZeroRun: zeroUnit}
}

// HasSnapshot knows the one that the file remembers.
func (g *fileImage) HasSnapshot(_ context.Context, name string) (bool, error) {
	return g.past.is(name), nil
}

// SnapshotRoom has no limit.
func (g *fileImage) SnapshotRoom(context.Context) (int, error) { return -1, nil }

// Lock refuses a file that is attached to a loop device, or locked as QEMU does.
func (g *fileImage) Lock(context.Context) error {
	if device := loopDevice(g.f); device != "" {
		return g.error("open", syscall.EBUSY, "Detach it first: losetup -d "+device, fmt.Errorf("%s is attached to it", device))
	}
	f, err := os.OpenFile(g.f.Name(), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fileError("open", g.f.Name(), err)
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		err = g.error("open", syscall.EBUSY, "End what uses it first, such as a virtual machine", errors.New("another process has locked the file"))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := g.f
	g.f = f
	return old.Close()
}

// loopDevice is the loop device of a file, or empty.
func loopDevice(f *os.File) string {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return ""
	}
	for _, path := range backing {
		text, err := os.ReadFile(path)
		if err == nil && string(bytes.TrimSuffix(text, []byte("\n"))) == f.Name() {
			return "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(path)))
		}
	}
	return ""
}

// Empty reads what the file system has of the file.
func (g *fileImage) Empty(ctx context.Context) (bool, error) {
	if g.past.valid {
		return false, nil
	}
	empty := true
	buf := make([]byte, 1<<20)
	err := dataOf(g.f, g.size, func(off, n int64) error {
		for ; n > 0 && empty; off, n = off+int64(len(buf)), n-int64(len(buf)) {
			p := buf[:min(int64(len(buf)), n)]
			if _, err := g.f.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			empty = zeroPrefix(p, off) == len(p)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return empty, fileErrorOrNil("read", g.f.Name(), err)
}

// Unchanged compares time and size with what the file remembers.
func (g *fileImage) Unchanged(_ context.Context, snapshot string) (bool, error) {
	info, err := g.f.Stat()
	if err != nil {
		return false, fileError("stat", g.f.Name(), err)
	}
	return g.past.is(snapshot) && g.past.fits(info), nil
}

// Guard goes on with a copy. On file systems that share blocks it costs nothing.
func (g *fileImage) Guard(ctx context.Context) error {
	copied, err := cloneFile(ctx, g.f, g.d.temp(g.job), g.size)
	if err != nil {
		return fileError("copy", g.f.Name(), err)
	}
	// The lock on the image's own file ends with its descriptor: the copy takes
	// its place, and a second restore of it is kept away above.
	old := g.f
	g.f, g.temp = copied, true
	return old.Close()
}

// Resize cuts or extends the file.
func (g *fileImage) Resize(_ context.Context, size int64) error {
	if err := g.f.Truncate(size); err != nil {
		return fileError("resize", g.f.Name(), err)
	}
	g.size = size
	g.changed.Store(true)
	return nil
}

// WriteAt writes.
func (g *fileImage) WriteAt(_ context.Context, p []byte, off int64) error {
	g.changed.Store(true)
	if _, err := g.f.WriteAt(p, off); err != nil {
		return fileError("write", g.f.Name(), err)
	}
	return nil
}

// Zero punches a hole, or writes zeros where the file system has none.
func (g *fileImage) Zero(ctx context.Context, off, n int64) error {
	g.changed.Store(true)
	err := ignoringEINTR(func() error {
		return unix.Fallocate(int(g.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		err = writeZeros(ctx, g.f, off, n)
	}
	return fileErrorOrNil("zero", g.f.Name(), err)
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func writeZeros(ctx context.Context, f *os.File, off, n int64) error {
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), n)]
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// Snapshot remembers the name. A file keeps no older bytes, and protects none.
func (g *fileImage) Snapshot(_ context.Context, name string, _ bool) error {
	g.snapshot = name
	g.changed.Store(false)
	return nil
}

// Flush syncs the file.
func (g *fileImage) Flush(context.Context) error {
	return fileErrorOrNil("sync", g.f.Name(), g.f.Sync())
}

// Commit gives the file its name.
func (g *fileImage) Commit(ctx context.Context) error {
	if g.changed.Load() {
		g.snapshot = ""
	}
	if err := remember(g.f, g.snapshot); err != nil {
		return fileError("remember the snapshot of", g.f.Name(), err)
	}
	if err := g.Flush(ctx); err != nil {
		return err
	}
	if !g.temp {
		return nil
	}
	final := g.d.path(g.job.Image)
	if err := place(g.d.temp(g.job), final, g.job.Update); err != nil {
		return fileError("name", final, err)
	}
	g.temp, g.named = false, true
	return nil
}

// place renames a file for good; it replaces another only where that is meant.
func place(temp, final string, replace bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, final, flags)
	if errors.Is(err, syscall.EINVAL) && !replace {
		// A file system without that flag: a link fails as well where there is one.
		if err = os.Link(temp, final); err == nil {
			err = os.Remove(temp)
		}
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(final))
}

// Abort removes the temporary file.
func (g *fileImage) Abort(context.Context) error {
	var err error
	if g.temp {
		err = fileErrorOrNil("remove", g.d.temp(g.job), os.Remove(g.d.temp(g.job)))
	}
	return errors.Join(err, g.Close())
}

// Close closes the file.
func (g *fileImage) Close() error { return fileErrorOrNil("close", g.f.Name(), g.f.Close()) }

func (g *fileImage) error(op string, errno syscall.Errno, hint string, err error) error {
	return &target.Error{Op: op, Name: g.f.Name(), Errno: errno, Err: err, Hint: hint}
}
