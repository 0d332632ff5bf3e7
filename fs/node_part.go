package fs

import (
	"context"
	"strconv"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/parttable"
	"rbdbackupfs/internal/treename"
)

// A snapshotPart is a partition of a snapshot's image.
type snapshotPart struct {
	snap *chain.Snapshot
	part *parttable.Partition
}

func (p snapshotPart) file() string {
	return treename.PartitionFile(p.snap.Name, p.snap.Of, p.part.Number)
}

func (p snapshotPart) ino() uint64 {
	return makeIno(inoImage, p.snap.Generation, uint8(p.part.Number))
}

// shown tells whether a partition has a file: an extended one holds nothing but others.
func shown(part *parttable.Partition) bool {
	switch part.Type {
	case "0x05", "0x0f", "0x85":
		return false
	}
	return part.Number > 0 && part.Number < 1<<inoPartBits
}

// partsOf lists the partitions that have files.
func partsOf(snapshots []*chain.Snapshot) (parts []snapshotPart) {
	for _, snap := range snapshots {
		for i := range snap.Partitions {
			if part := &snap.Partitions[i]; shown(part) {
				parts = append(parts, snapshotPart{snap, part})
			}
		}
	}
	return parts
}

// findPart returns the snapshot and the partition with this file name, or nil.
func (x *snapshotIndex) findPart(file string) (*chain.Snapshot, *parttable.Partition) {
	image, number, ok := treename.CutPartition(file)
	if !ok {
		return nil, nil
	}
	candidates := x.image.Snapshots
	if !treename.IsCut(file) {
		snap := x.find(image)
		if snap == nil {
			return nil, nil
		}
		candidates = []*chain.Snapshot{snap}
	}
	for _, p := range partsOf(candidates) {
		if p.part.Number == number && p.file() == file {
			return p.snap, p.part
		}
	}
	return nil, nil
}

// partNode is <snapshot>.pN.img.
type partNode struct {
	imageNode
	part parttable.Partition
}

func (n *folderNode) newPart(
	ctx context.Context, snap *chain.Snapshot, part *parttable.Partition, out *fuse.EntryOut,
) *fusefs.Inode {
	child := &partNode{imageNode: imageNode{node: node{t: n.t}}, part: *part}
	child.show(snap)
	child.fill(&out.Attr)
	setTimeouts(out)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: snapshotPart{snap, part}.ino()})
}

// fill says that a little less is there than the size, at most: how much of the
// snapshot's data lies in the partition isn't known, and coreutils look for holes only
// where there may be some.
func (n *partNode) fill(out *fuse.Attr) {
	n.imageNode.fill(out)
	out.Size = uint64(n.part.Size)
	out.Blocks = blocks(min(n.snap.Load().Allocated, max(n.part.Size-statBlock, 0)))
}

var (
	_ fusefs.NodeGetattrer   = (*partNode)(nil)
	_ fusefs.NodeOpener      = (*partNode)(nil)
	_ fusefs.NodeGetxattrer  = (*partNode)(nil)
	_ fusefs.NodeListxattrer = (*partNode)(nil)
)

// Getattr gives the partition's size.
func (n *partNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	out.SetTimeout(timeoutLong)
	return 0
}

// Open gives the part of the snapshot's image.
func (n *partNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writes(flags) {
		return nil, 0, syscall.EROFS
	}
	snap := n.snap.Load()
	view, errno := n.view(snap)
	if errno != 0 {
		return nil, 0, errno
	}
	handle := &imageHandle{t: n.t, snap: snap, size: n.part.Size, view: partView{view, n.part.Off, n.part.Size}}
	n.t.register(handle)
	return handle, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *partNode) attributes() attributes {
	list := append(n.imageNode.attributes(), attributes{
		{xattrPart, strconv.Itoa(n.part.Number)},
		{xattrPartOffset, strconv.FormatInt(n.part.Off, 10)},
		{xattrPartType, n.part.Type},
	}...)
	if n.part.Name != "" {
		list = append(list, attributes{{xattrPartName, n.part.Name}}...)
	}
	return list
}

// Getxattr tells where the bytes come from.
func (n *partNode) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return getxattr(n.attributes, name, dest)
}

// Listxattr lists what Getxattr tells.
func (n *partNode) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.attributes().list(dest)
}

// A partView is a range of a View.
type partView struct {
	View
	off, size int64 // bytes
}

// ReadAt reads within the range.
func (v partView) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return v.View.ReadAt(ctx, p, v.off+off)
}

// NextData returns an offset in the range.
func (v partView) NextData(ctx context.Context, off int64) (int64, error) {
	at, err := v.View.NextData(ctx, v.off+off)
	if err == nil && at >= v.off+v.size {
		return 0, chain.ErrNoData
	}
	return at - v.off, err
}

// NextHole returns an offset in the range, or its end.
func (v partView) NextHole(ctx context.Context, off int64) (int64, error) {
	at, err := v.View.NextHole(ctx, v.off+off)
	return min(at-v.off, v.size), err
}
