package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/treename"
)

// A dirHandle is one open folder: its entries as of that moment, made one by one
// as they are asked for. An offset is the number of entries before it.
type dirHandle struct {
	t            *tree
	wing         wing
	self, parent uint64 // inode numbers
	folders      []*folder
	fixed        []fuse.DirEntry
	snapshots    []*chain.Snapshot
	parts        []snapshotPart

	next  int
	entry fuse.DirEntry // the one that was returned last
}

const dotEntries = 2

var _ fusefs.FileReaddirenter = (*dirHandle)(nil)

// Readdirent returns the next entry, nil at the end. It is valid until the next
// call; go-fuse makes one at a time for each handle.
func (h *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	entry, ok := h.at(h.next)
	if !ok {
		return nil, 0
	}
	h.next++
	entry.Off = uint64(h.next)
	h.entry = entry
	return &h.entry, 0
}

// at makes entry number i.
func (h *dirHandle) at(i int) (fuse.DirEntry, bool) {
	switch i {
	case 0:
		return fuse.DirEntry{Name: ".", Mode: syscall.S_IFDIR, Ino: h.self}, true
	case 1:
		return fuse.DirEntry{Name: "..", Mode: syscall.S_IFDIR, Ino: h.parent}, true
	}
	i -= dotEntries
	if i < len(h.folders) {
		f := h.folders[i]
		return fuse.DirEntry{Name: f.file, Mode: syscall.S_IFDIR, Ino: f.ino(h.wing)}, true
	}
	i -= len(h.folders)
	if i < len(h.fixed) {
		return h.fixed[i], true
	}
	i -= len(h.fixed)
	if i < len(h.snapshots) {
		snap := h.snapshots[i]
		name := treename.ImageFile(snap.Name, snap.Of)
		return fuse.DirEntry{Name: name, Mode: syscall.S_IFREG, Ino: h.t.snapshotIno(snap, h.wing)}, true
	}
	i -= len(h.snapshots)
	if i < len(h.parts) {
		p := h.parts[i]
		return fuse.DirEntry{Name: p.file(), Mode: syscall.S_IFREG, Ino: p.ino()}, true
	}
	return fuse.DirEntry{}, false
}

var _ fusefs.FileSeekdirer = (*dirHandle)(nil)

// Seekdir goes on at an offset that an entry had, or at the beginning.
func (h *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	h.next = int(min(off, uint64(dotEntries+len(h.folders)+len(h.fixed)+len(h.snapshots)+len(h.parts))))
	return 0
}
