package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// The refusals. Without them go-fuse would let an unlink succeed and answer
// ENOTSUP to most others.
var (
	_ fusefs.NodeSetattrer     = (*node)(nil)
	_ fusefs.NodeCreater       = (*node)(nil)
	_ fusefs.NodeTmpfiler      = (*node)(nil)
	_ fusefs.NodeMkdirer       = (*node)(nil)
	_ fusefs.NodeMknoder       = (*node)(nil)
	_ fusefs.NodeLinker        = (*node)(nil)
	_ fusefs.NodeSymlinker     = (*node)(nil)
	_ fusefs.NodeUnlinker      = (*node)(nil)
	_ fusefs.NodeRmdirer       = (*node)(nil)
	_ fusefs.NodeRenamer       = (*node)(nil)
	_ fusefs.NodeAllocater     = (*node)(nil)
	_ fusefs.NodeSetxattrer    = (*node)(nil)
	_ fusefs.NodeRemovexattrer = (*node)(nil)
	_ fusefs.NodeFsyncer       = (*node)(nil)
)

// Setattr refuses to change modes, owners, times and sizes.
func (*node) Setattr(context.Context, fusefs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

// Create refuses.
func (*node) Create(
	context.Context, string, uint32, uint32, *fuse.EntryOut,
) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EROFS
}

// Tmpfile refuses.
func (*node) Tmpfile(
	context.Context, uint32, uint32, *fuse.EntryOut,
) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EROFS
}

// Mkdir refuses.
func (*node) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Mknod refuses.
func (*node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Link refuses.
func (*node) Link(context.Context, fusefs.InodeEmbedder, string, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Symlink refuses.
func (*node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EROFS
}

// Unlink refuses.
func (*node) Unlink(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rmdir refuses.
func (*node) Rmdir(context.Context, string) syscall.Errno { return syscall.EROFS }

// Rename refuses.
func (*node) Rename(context.Context, string, fusefs.InodeEmbedder, string, uint32) syscall.Errno {
	return syscall.EROFS
}

// Allocate refuses.
func (*node) Allocate(context.Context, fusefs.FileHandle, uint64, uint64, uint32) syscall.Errno {
	return syscall.EROFS
}

// Setxattr gives ENOTSUP: cp -p takes anything else for a failure.
func (*node) Setxattr(context.Context, string, []byte, uint32) syscall.Errno { return syscall.ENOTSUP }

// Removexattr gives ENOTSUP as Setxattr does.
func (*node) Removexattr(context.Context, string) syscall.Errno { return syscall.ENOTSUP }

// Fsync has nothing to do.
func (*node) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno { return 0 }

// writes reports whether open flags ask for more than reading.
func writes(flags uint32) bool {
	return flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
}
