package fs

import (
	"context"
	"strings"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/treename"
)

// folderNode is images/ or scratch/, or a folder below it: an image, a parent of
// images, or both.
type folderNode struct {
	node
	wing wing
	path string // of the image, empty for images/ and scratch/

	mu    sync.Mutex
	index *snapshotIndex // of the image as it was last looked into
}

// fill doesn't wait, so that listing the images is quick while chains are read.
func (n *folderNode) fill(out *fuse.Attr) {
	mtime := n.t.root.since
	if n.path != "" {
		if image := n.t.known(n.path); image != nil && image.Latest != nil {
			mtime = image.Latest.ModTime
		}
	}
	n.common(out, n.wing.mode(), mtime)
}

var _ fusefs.NodeGetattrer = (*folderNode)(nil)

// Getattr gives the newest snapshot's time as the folder's.
func (n *folderNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	out.SetTimeout(timeoutLong)
	return 0
}

// folder returns what is at n's path now, waiting for the first listing.
func (n *folderNode) folder(ctx context.Context, op string) (*folder, syscall.Errno) {
	if err := n.t.listed(ctx); err != nil {
		return nil, n.t.errno(op, location{image: n.path, offset: -1}, err)
	}
	f := n.t.folders.get(n.path)
	if f == nil {
		return nil, syscall.ENOENT
	}
	return f, 0
}

// image waits for the chain of the image at n.
func (n *folderNode) image(ctx context.Context, op string) (*chain.Image, syscall.Errno) {
	image, err := n.t.image(ctx, n.path)
	if err != nil {
		return nil, n.t.errno(op, location{image: n.path, offset: -1}, err)
	}
	return image, 0
}

var _ fusefs.NodeLookuper = (*folderNode)(nil)

// Lookup waits for the image's chain only where the name may be a snapshot's.
func (n *folderNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	f, errno := n.folder(ctx, "lookup")
	if errno != 0 {
		return nil, errno
	}
	if child := f.child(name); child != nil {
		return n.newFolder(ctx, child, out), 0
	}
	if !f.isImage || !strings.HasSuffix(name, treename.ImageEnding) {
		return nil, syscall.ENOENT
	}
	image, errno := n.image(ctx, "lookup")
	if errno != 0 {
		return nil, errno
	}
	if name == treename.Latest {
		return n.newLatest(ctx, image.Latest, out)
	}
	if snap := n.snapshots(image).find(name); snap != nil {
		return n.newImage(ctx, name, snap, out), 0
	}
	if n.wing == wingImages {
		if snap, part := n.snapshots(image).findPart(name); snap != nil {
			return n.newPart(ctx, snap, part, out), 0
		}
	}
	return nil, syscall.ENOENT
}

func (n *folderNode) newFolder(ctx context.Context, f *folder, out *fuse.EntryOut) *fusefs.Inode {
	child := &folderNode{node: node{t: n.t}, wing: n.wing, path: f.path}
	child.fill(&out.Attr)
	setTimeouts(out)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: f.ino(n.wing)})
}

func (n *folderNode) newLatest(
	ctx context.Context, latest *chain.Snapshot, out *fuse.EntryOut,
) (*fusefs.Inode, syscall.Errno) {
	if latest == nil {
		return nil, syscall.ENOENT
	}
	child := &latestNode{node: node{t: n.t}, target: treename.ImageFile(latest.Name, latest.Of), mtime: latest.ModTime}
	child.fill(&out.Attr)
	setTimeouts(out)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFLNK, Ino: latestIno(latest, n.wing)}), 0
}

func (n *folderNode) newImage(
	ctx context.Context, name string, snap *chain.Snapshot, out *fuse.EntryOut,
) *fusefs.Inode {
	ino := n.t.snapshotIno(snap, n.wing)
	// An inode that the kernel has keeps its node; what is told about its bytes
	// may have changed, such as the files they come from.
	if known := n.GetChild(name); known != nil && known.StableAttr().Ino == ino {
		if node, ok := known.Operations().(snapshotNode); ok {
			node.show(snap)
		}
	}
	var child snapshotNode = &imageNode{node: node{t: n.t}}
	if n.wing == wingScratch {
		child = &scratchNode{imageNode{node: node{t: n.t}}}
	}
	child.show(snap)
	child.fill(&out.Attr)
	setTimeouts(out)
	if n.wing == wingScratch {
		out.SetAttrTimeout(0) // they change with each write
	}
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: ino})
}

// snapshots returns an index of the image's snapshots, made once for each state
// of the image.
func (n *folderNode) snapshots(image *chain.Image) *snapshotIndex {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.index == nil || n.index.image != image {
		n.index = newSnapshotIndex(image)
	}
	return n.index
}

var _ fusefs.NodeOpendirHandler = (*folderNode)(nil)

// OpendirHandle waits for the image's chain, if this is an image.
func (n *folderNode) OpendirHandle(ctx context.Context, _ uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	f, errno := n.folder(ctx, "open folder")
	if errno != 0 {
		return nil, 0, errno
	}
	handle := &dirHandle{t: n.t, wing: n.wing, self: f.ino(n.wing), parent: f.parentIno(n.wing), folders: f.children}
	if !f.isImage {
		return handle, 0, 0
	}
	image, errno := n.image(ctx, "open folder")
	if errno != 0 {
		return nil, 0, errno
	}
	handle.snapshots = image.Snapshots
	if n.wing == wingImages {
		handle.parts = partsOf(image.Snapshots)
	}
	if image.Latest != nil {
		handle.fixed = []fuse.DirEntry{{Name: treename.Latest, Mode: syscall.S_IFLNK, Ino: latestIno(image.Latest, n.wing)}}
	}
	return handle, 0, 0
}

var (
	_ fusefs.NodeGetxattrer  = (*folderNode)(nil)
	_ fusefs.NodeListxattrer = (*folderNode)(nil)
)

// attributes are those of an image; other folders have none.
func (n *folderNode) attributes() attributes {
	if f := n.t.folders.get(n.path); f == nil || !f.isImage {
		return nil
	}
	return attributes{{xattrPool, pool(n.path)}, {xattrImage, n.path}}
}

// Getxattr gives the names that the path has lost by encoding.
func (n *folderNode) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return getxattr(n.attributes, name, dest)
}

// Listxattr lists them.
func (n *folderNode) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.attributes().list(dest)
}
