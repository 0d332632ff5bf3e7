package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/chain"
)

// latestNode is latest.img.
type latestNode struct {
	node
	target string
	mtime  time.Time
}

// latestIno depends on the target: a symlink that points elsewhere is another.
func latestIno(latest *chain.Snapshot, w wing) uint64 {
	return makeIno(inoLatest, latest.Generation, uint8(w))
}

func (n *latestNode) fill(out *fuse.Attr) {
	n.common(out, linkMode, n.mtime)
	out.Size = uint64(len(n.target))
}

var _ fusefs.NodeGetattrer = (*latestNode)(nil)

// Getattr gives the time of the snapshot it points to.
func (n *latestNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	out.SetTimeout(timeoutLong)
	return 0
}

var _ fusefs.NodeReadlinker = (*latestNode)(nil)

// Readlink gives a name in the same folder.
func (n *latestNode) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(n.target), 0 }
