package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
)

// imageNode is <snapshot>.img. Its bytes never change: others would be another
// inode.
type imageNode struct {
	node
	snap atomic.Pointer[chain.Snapshot] // always of one generation
}

// A snapshotNode is a file that shows a snapshot.
type snapshotNode interface {
	fusefs.InodeEmbedder
	show(snap *chain.Snapshot)
	fill(out *fuse.Attr)
}

// show takes what is told about the snapshot now.
func (n *imageNode) show(snap *chain.Snapshot) { n.snap.Store(snap) }

// imageIno is the inode number of a snapshot's image.
func imageIno(snap *chain.Snapshot) uint64 { return makeIno(inoImage, snap.Generation, 0) }

// blocks converts bytes to the unit of st_blocks, rounded up.
func blocks(bytes int64) uint64 { return uint64((max(bytes, 0) + statBlock - 1) / statBlock) }

func (n *imageNode) fill(out *fuse.Attr) {
	snap := n.snap.Load()
	n.common(out, fileMode, snap.ModTime)
	out.Size = uint64(snap.Size)
	out.Blocks = blocks(snap.Allocated)
}

func (n *imageNode) at(off int64) location {
	snap := n.snap.Load()
	return location{image: snap.Image, snapshot: snap.Label(), offset: off}
}

var _ fusefs.NodeGetattrer = (*imageNode)(nil)

// Getattr gives the snapshot's size, and the bytes that are really there.
func (n *imageNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	out.SetTimeout(timeoutLong)
	return 0
}

// view opens the snapshot's bytes. An entry that the kernel still has may be gone.
func (n *imageNode) view(snap *chain.Snapshot) (View, syscall.Errno) {
	view, err := n.t.lib.OpenView(snap)
	if errors.Is(err, chain.ErrNotFound) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	if err != nil {
		return nil, n.t.errno("open", n.at(-1), err)
	}
	return view, 0
}

var _ fusefs.NodeOpener = (*imageNode)(nil)

// Open takes a view that outlives the snapshot's entry.
func (n *imageNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writes(flags) {
		return nil, 0, syscall.EROFS
	}
	snap := n.snap.Load()
	view, errno := n.view(snap)
	if errno != 0 {
		return nil, 0, errno
	}
	handle := &imageHandle{t: n.t, snap: snap, size: snap.Size, view: view}
	n.t.register(handle)
	return handle, fuse.FOPEN_KEEP_CACHE, 0
}

var (
	_ fusefs.NodeGetxattrer  = (*imageNode)(nil)
	_ fusefs.NodeListxattrer = (*imageNode)(nil)
)

func (n *imageNode) attributes() attributes { return snapshotAttributes(n.snap.Load()) }

// Getxattr tells where the bytes come from.
func (n *imageNode) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return getxattr(n.attributes, name, dest)
}

// Listxattr lists what Getxattr tells.
func (n *imageNode) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.attributes().list(dest)
}

// imageHandle is one open image.
type imageHandle struct {
	t    *tree
	snap *chain.Snapshot
	size int64 // bytes
	view View
}

func (h *imageHandle) at(off int64) location {
	return location{image: h.snap.Image, snapshot: h.snap.Label(), offset: off}
}

var _ fusefs.FileReader = (*imageHandle)(nil)

// Read fills dest up to the snapshot's size, or gives an error. One short read
// would make the kernel take everything behind it for the end of the file.
func (h *imageHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off < 0 || off >= h.size {
		return fuse.ReadResultData(nil), 0
	}
	if left := h.size - off; int64(len(dest)) > left {
		dest = dest[:left]
	}
	read, err := h.view.ReadAt(h.t.io, dest, off)
	if read == len(dest) && (err == nil || errors.Is(err, io.EOF)) {
		return fuse.ReadResultData(dest), 0
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%d of %d bytes: %w", read, len(dest), errShort)
	}
	return nil, h.fail("read", off, err)
}

// fail is EIO whatever the error, and logged, unless the mount is ending. An
// entry that is open was found, so a library's ErrNotFound is about its bytes.
func (h *imageHandle) fail(op string, off int64, err error) syscall.Errno {
	if !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", errBytes, err)
	}
	return h.t.errno(op, h.at(off), err)
}

var _ fusefs.FileLseeker = (*imageHandle)(nil)

// Lseek finds data and holes; the kernel does the rest of lseek itself.
func (h *imageHandle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	if off >= uint64(h.size) {
		return 0, syscall.ENXIO
	}
	var found int64
	var err error
	switch whence {
	case unix.SEEK_DATA:
		found, err = h.view.NextData(h.t.io, int64(off))
	case unix.SEEK_HOLE:
		found, err = h.view.NextHole(h.t.io, int64(off))
	default:
		return 0, syscall.EINVAL
	}
	switch {
	case errors.Is(err, chain.ErrNoData):
		return 0, syscall.ENXIO
	case err != nil:
		return 0, h.fail("seek", int64(off), err)
	}
	return uint64(found), 0
}

var _ fusefs.FileReleaser = (*imageHandle)(nil)

// Release closes the view.
func (h *imageHandle) Release(context.Context) syscall.Errno {
	if h.t.release(h) {
		h.end()
	}
	return 0
}

func (h *imageHandle) end() { h.t.closed(h.snap, h.view.Close()) }
