package fs

import (
	"context"
	"errors"
	"strconv"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/overlay"
)

// The extended attributes that scratch files have besides those of the image.
const (
	xattrScratch      = xattrPrefix + "scratch"       // pristine, changed, or withheld and why
	xattrScratchBytes = xattrPrefix + "scratch.bytes" // what the changes take
)

// scratchNode is <snapshot>.img in scratch/.
type scratchNode struct{ imageNode }

// fill counts what was written as if it were all new.
func (n *scratchNode) fill(out *fuse.Attr) {
	snap := n.snap.Load()
	info, _ := n.t.opts.Scratch.Info(overlayName(snap))
	mtime := snap.ModTime
	if info.Modified.After(mtime) {
		mtime = info.Modified
	}
	n.common(out, scratchMode, mtime)
	out.Size = uint64(snap.Size)
	out.Blocks = blocks(min(snap.Allocated+info.Bytes, snap.Size))
}

var (
	_ fusefs.NodeGetattrer = (*scratchNode)(nil)
	_ fusefs.NodeSetattrer = (*scratchNode)(nil)
	_ fusefs.NodeAccesser  = (*scratchNode)(nil)
)

// Getattr gives the snapshot's size, and the room that is really taken.
func (n *scratchNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	return 0
}

// Setattr refuses another size: an image has that of the snapshot. Times are taken
// without an effect.
func (n *scratchNode) Setattr(_ context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, set := in.GetSize(); set && size != uint64(n.snap.Load().Size) {
		return syscall.EPERM
	}
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		return syscall.EPERM
	}
	n.fill(&out.Attr)
	return 0
}

// Access is asked only where the owner of the mount alone gets in.
func (*scratchNode) Access(_ context.Context, mask uint32) syscall.Errno {
	const execute = 1
	if mask&execute != 0 {
		return syscall.EACCES
	}
	return 0
}

var _ fusefs.NodeOpener = (*scratchNode)(nil)

// Open gives what was written over the snapshot so far. ESTALE is a snapshot that is
// another one than that which was written over.
func (n *scratchNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		return nil, 0, syscall.EPERM
	}
	snap := n.snap.Load()
	n.t.scratch.drop.RLock()
	defer n.t.scratch.drop.RUnlock()
	if n.StableAttr().Ino != n.t.scratch.ino(snap) {
		return nil, 0, syscall.ESTALE // dropped meanwhile: the kernel has pages of before
	}
	view, errno := n.view(snap)
	if errno != 0 {
		return nil, 0, errno
	}
	o, err := n.t.openOverlay(snap)
	if err != nil {
		n.t.closed(snap, view.Close())
		return nil, 0, n.t.errno("open", n.at(-1), err)
	}
	handle := &scratchHandle{imageHandle: imageHandle{t: n.t, snap: snap, size: snap.Size, view: view}, overlay: o}
	n.t.scratch.opened()
	n.t.register(handle)
	return handle, fuse.FOPEN_KEEP_CACHE, 0
}

var (
	_ fusefs.NodeGetxattrer  = (*scratchNode)(nil)
	_ fusefs.NodeListxattrer = (*scratchNode)(nil)
)

func (n *scratchNode) attributes() attributes {
	snap := n.snap.Load()
	state := "pristine"
	info, known := n.t.opts.Scratch.Info(overlayName(snap))
	switch {
	case !known:
	case info.Err != nil:
		state = "withheld: " + info.Err.Error()
	case info.Identity != n.t.overlayIdentity(snap):
		state = "withheld: " + overlay.ErrChanged.Error()
	case !info.Modified.IsZero():
		state = "changed"
	}
	return append(snapshotAttributes(snap), attributes{
		{xattrScratch, state}, {xattrScratchBytes, strconv.FormatInt(info.Bytes, 10)},
	}...)
}

// Getxattr tells where the bytes come from.
func (n *scratchNode) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return getxattr(n.attributes, name, dest)
}

// Listxattr lists what Getxattr tells.
func (n *scratchNode) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.attributes().list(dest)
}

// scratchHandle is one open scratch file: the snapshot's image, and what is written
// over it.
type scratchHandle struct {
	imageHandle
	overlay *overlay.Overlay
}

var (
	_ fusefs.FileReader   = (*scratchHandle)(nil)
	_ fusefs.FileWriter   = (*scratchHandle)(nil)
	_ fusefs.FileLseeker  = (*scratchHandle)(nil)
	_ fusefs.FileReleaser = (*scratchHandle)(nil)

	_ fusefs.NodeFsyncer   = (*scratchNode)(nil)
	_ fusefs.NodeAllocater = (*scratchNode)(nil)
)

// Read fills dest up to the snapshot's size, or gives an error.
func (h *scratchHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off < 0 || off >= h.snap.Size {
		return fuse.ReadResultData(nil), 0
	}
	dest = dest[:min(int64(len(dest)), h.snap.Size-off)]
	if _, err := h.overlay.ReadAt(h.t.io, h.view, dest, off); err != nil {
		return nil, h.fail("read", off, err)
	}
	return fuse.ReadResultData(dest), 0
}

// Write writes to the overlay alone.
func (h *scratchHandle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := h.overlay.WriteAt(h.t.io, h.view, data, off)
	return uint32(n), h.t.errno("write", h.at(off), err)
}

// Fsync makes durable what was written.
func (*scratchNode) Fsync(_ context.Context, handle fusefs.FileHandle, _ uint32) syscall.Errno {
	h, ok := handle.(*scratchHandle)
	if !ok {
		return 0
	}
	return h.t.errno("sync", h.at(-1), h.overlay.Sync())
}

// Allocate makes zeros of a range, for a loop device that discards or zeroes. It
// reserves nothing.
func (*scratchNode) Allocate(_ context.Context, handle fusefs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	h, ok := handle.(*scratchHandle)
	if !ok {
		return syscall.EBADF
	}
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if kind := mode | unix.FALLOC_FL_KEEP_SIZE; kind != punch && kind != unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE {
		return syscall.EOPNOTSUPP
	}
	end := off + size
	switch {
	case end < off:
		return syscall.EFBIG
	case mode&unix.FALLOC_FL_KEEP_SIZE == 0 && end > uint64(h.snap.Size):
		return syscall.EFBIG
	case off >= uint64(h.snap.Size):
		return 0
	}
	end = min(end, uint64(h.snap.Size))
	return h.t.errno("make zeros", h.at(int64(off)), h.overlay.Zero(h.t.io, h.view, int64(off), int64(end-off)))
}

// Lseek finds data and holes of both.
func (h *scratchHandle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	if off >= uint64(h.snap.Size) {
		return 0, syscall.ENXIO
	}
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, syscall.EINVAL
	}
	found, err := h.seek(int64(off), whence == unix.SEEK_DATA)
	switch {
	case errors.Is(err, chain.ErrNoData):
		return 0, syscall.ENXIO
	case err != nil:
		return 0, h.fail("seek", int64(off), err)
	}
	return uint64(found), 0
}

func (h *scratchHandle) seek(at int64, data bool) (int64, error) {
	next := h.view.NextHole
	if data {
		next = h.view.NextData
	}
	for at < h.snap.Size {
		kind, end := h.overlay.Look(at)
		switch {
		case kind == overlay.OfBase:
			found, err := next(h.t.io, at)
			if err != nil && !errors.Is(err, chain.ErrNoData) {
				return 0, err
			}
			if err == nil && found < end {
				return found, nil
			}
		case (kind == overlay.Data) == data:
			return at, nil
		}
		at = end
	}
	if data {
		return 0, chain.ErrNoData
	}
	return h.snap.Size, nil
}

// Release closes both.
func (h *scratchHandle) Release(context.Context) syscall.Errno {
	if h.t.release(h) {
		h.end()
	}
	return 0
}

func (h *scratchHandle) end() {
	h.t.closed(h.snap, errors.Join(h.overlay.Close(), h.view.Close()))
	h.t.scratch.ended()
}
