package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/internal/treename"
)

const (
	// timeoutLong is how long the kernel may keep what is invalidated when it
	// changes. It is not for ever, so that nothing can be wrong for ever.
	timeoutLong = 5 * time.Minute
	blockSize   = 1 << 20 // preferred I/O size; coreutils read in it
	statBlock   = 512     // unit of st_blocks
	fileMode    = 0o440
	folderMode  = 0o550

	scratchFolderMode = 0o770
	linkMode          = 0o777
	scratchMode       = 0o660
	passMode          = 0o001 // others get through, to what lets them in
)

// node is what all nodes embed: their tree, and the answers that are the same
// everywhere, most of them a refusal. Nothing here can be changed.
type node struct {
	fusefs.Inode
	t *tree
}

var _ fusefs.NodeAccesser = (*node)(nil)

// Access is asked only where the kernel doesn't judge by the modes itself
// (default_permissions); then nobody gets in but the owner of the mount.
func (n *node) Access(_ context.Context, mask uint32) syscall.Errno {
	const write, execute = 2, 1
	switch {
	case mask&write != 0:
		return syscall.EROFS
	case mask&execute != 0 && !n.IsDir():
		return syscall.EACCES
	}
	return 0
}

var _ fusefs.NodeStatfser = (*node)(nil)

// Statfs shows what the served snapshots hold, and that nothing is free.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const unit = 4096
	allocated, snapshots := n.t.totals()
	out.Bsize, out.Frsize, out.NameLen = blockSize, unit, treename.Max
	out.Blocks = (allocated + unit - 1) / unit
	out.Files = snapshots
	return 0
}

// common fills the fields that all entries have in the same way.
func (n *node) common(out *fuse.Attr, mode uint32, mtime time.Time) {
	out.Mode = mode
	if mode != linkMode {
		out.Mode &^= n.t.opts.Umask
	}
	out.Nlink = 1 // of a folder: the number of subfolders isn't told
	out.Blksize = blockSize
	out.Owner = fuse.Owner{Uid: *n.t.opts.UID, Gid: *n.t.opts.GID}
	out.SetTimes(&mtime, &mtime, &mtime)
}

// setTimeouts lets the kernel keep an entry that was looked up.
func setTimeouts(out *fuse.EntryOut) {
	out.SetEntryTimeout(timeoutLong)
	out.SetAttrTimeout(timeoutLong)
}
