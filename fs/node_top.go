package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Names of the fixed entries.
const (
	imagesName  = "images"
	scratchName = "scratch"
	importName  = "import"
	statusName  = "status.json"
)

// topNode is the root. Its entries are fixed.
type topNode struct {
	node
	since time.Time // when it was mounted
}

func newTopNode(t *tree) *topNode {
	return &topNode{node: node{t: t}, since: t.opts.Clock.Now()}
}

var _ fusefs.NodeGetattrer = (*topNode)(nil)

// Getattr is never out of date.
func (n *topNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	mode := uint32(folderMode)
	if n.t.opts.importOthers {
		mode |= passMode
	}
	n.common(&out.Attr, mode, n.since)
	out.SetTimeout(timeoutLong)
	return 0
}

var _ fusefs.NodeLookuper = (*topNode)(nil)

// Lookup knows the fixed entries.
func (n *topNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	for _, w := range n.t.wings() {
		if name == w.name() {
			child := &folderNode{node: node{t: n.t}, wing: w}
			child.fill(&out.Attr)
			setTimeouts(out)
			return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: w.ino()}), 0
		}
	}
	switch name {
	case importName:
		if n.t.opts.Importer == nil {
			return nil, syscall.ENOENT
		}
		child := &importFolder{node: node{t: n.t}}
		child.fill(&out.Attr)
		out.SetEntryTimeout(timeoutLong)
		return n.NewInode(ctx, child, fusefs.StableAttr{
			Mode: syscall.S_IFDIR, Ino: makeIno(inoRoot, serialImport, 0),
		}), 0
	case statusName:
		child := &statusNode{node: node{t: n.t}}
		if errno := child.fill(&out.Attr); errno != 0 {
			return nil, errno
		}
		out.SetEntryTimeout(timeoutLong) // its attributes are asked for each time
		return n.NewInode(ctx, child, fusefs.StableAttr{
			Mode: syscall.S_IFREG, Ino: makeIno(inoRoot, serialStatus, 0),
		}), 0
	}
	return nil, syscall.ENOENT
}

var _ fusefs.NodeOpendirHandler = (*topNode)(nil)

// OpendirHandle lists the fixed entries.
func (n *topNode) OpendirHandle(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	root := makeIno(inoRoot, serialRoot, 0)
	fixed := []fuse.DirEntry{{Name: statusName, Mode: syscall.S_IFREG, Ino: makeIno(inoRoot, serialStatus, 0)}}
	for _, w := range n.t.wings() {
		fixed = append(fixed, fuse.DirEntry{Name: w.name(), Mode: syscall.S_IFDIR, Ino: w.ino()})
	}
	if n.t.opts.Importer != nil {
		fixed = append(fixed, fuse.DirEntry{Name: importName, Mode: syscall.S_IFDIR, Ino: makeIno(inoRoot, serialImport, 0)})
	}
	return &dirHandle{self: root, parent: root, fixed: fixed}, 0, 0
}
