package fs

import (
	"context"
	"errors"
	"math"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"rbdbackupfs/internal/target"
)

// copySlice is how long one copy_file_range(2) may take: cp tells of nothing
// else meanwhile, and can only be stopped by a signal that ends it.
const copySlice = time.Second

var _ fusefs.NodeCopyFileRanger = (*imageNode)(nil)

// CopyFileRange restores a part of an image without its bytes going through the
// caller. The kernel asks the source's node. For anything but a file in import/
// it is told EXDEV, and the caller reads and writes; with ENOSYS the kernel would
// never ask again.
func (n *imageNode) CopyFileRange(
	ctx context.Context, fhIn fusefs.FileHandle, offIn uint64,
	_ *fusefs.Inode, fhOut fusefs.FileHandle, offOut, length, _ uint64,
) (uint32, syscall.Errno) {
	in, isImage := fhIn.(*imageHandle)
	out, isImport := fhOut.(*importHandle)
	switch {
	case !isImage || !isImport:
		return 0, syscall.EXDEV
	case offIn >= uint64(in.snap.Size):
		return 0, 0
	case offOut > math.MaxInt64-length:
		return 0, syscall.EFBIG
	}
	const most = 1 << 30 // the answer has 32 bits
	want := min(in.snap.Size-int64(offIn), int64(min(length, most)))
	taken, err := out.copyFrom(ctx, in.view, int64(offIn), int64(offOut), want)
	if errors.Is(err, errNoProgress) {
		return 0, n.t.errno("copy", n.at(int64(offIn)), err)
	}
	return uint32(taken), target.ErrnoOf(err)
}

// errNoProgress is an Import that broke its promise.
var errNoProgress = errors.New("nothing was taken, and no error")

// copyFrom takes something of [from, from+n), as much as a second allows. It
// never returns nothing without an error: to a copying program that is the end
// of the file.
func (h *importHandle) copyFrom(ctx context.Context, src View, from, off, n int64) (int64, error) {
	h.f.wrote(callerOf(ctx))
	call, end := h.f.t.patient(ctx)
	defer end()
	if n <= 0 {
		return 0, nil
	}
	for {
		slice, cancel := h.f.t.opts.Clock.WithTimeout(call, copySlice)
		taken, err := h.f.job.CopyFrom(slice, src, from, off, n)
		over := slice.Err() != nil
		cancel()
		switch {
		case taken > 0 && (err == nil || over):
			return taken, nil
		case call.Err() != nil:
			return 0, context.Canceled
		case over && (err == nil || errors.Is(err, context.DeadlineExceeded)):
			continue // the target is slow, and the caller can wait
		case err == nil:
			err = errNoProgress
		}
		return 0, err
	}
}
