package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/overlay"
)

// dropSerials is where the serials of scratch files begin whose changes were dropped.
const dropSerials = (inoMaxSerial + 1) / 2

// scratchFiles knows the scratch files that were dropped, and tells of closes.
type scratchFiles struct {
	// drop is held for writing while changes are dropped, and for reading by an open.
	drop sync.RWMutex

	mu      sync.Mutex
	last    uint64
	serials map[uint64]uint64 // by generation
	closed  chan struct{}     // is closed with the next close of a scratch file
	open    int
	unused  chan struct{} // is closed when none is open any more
	over    bool          // unused is closed
}

func newScratchFiles() *scratchFiles {
	return &scratchFiles{serials: map[uint64]uint64{}, closed: make(chan struct{}), unused: make(chan struct{})}
}

// Unused is closed when no scratch file is open any more, after one was.
func (s *Server) Unused() <-chan struct{} { return s.tree.scratch.unused }

// ino is the inode number of a scratch file.
func (s *scratchFiles) ino(snap *chain.Snapshot) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if serial, dropped := s.serials[snap.Generation]; dropped {
		return makeIno(inoScratch, serial, 0)
	}
	return makeIno(inoScratch, snap.Generation, 0)
}

// dropped gives a scratch file another inode number.
func (s *scratchFiles) dropped(snap *chain.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serials[snap.Generation] = dropSerials + s.last
	s.last++
}

func (s *scratchFiles) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
}

// ended wakes those who wait for a close.
func (s *scratchFiles) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.closed)
	s.closed = make(chan struct{})
	if s.open--; s.open == 0 && !s.over {
		s.over = true
		close(s.unused)
	}
}

func (s *scratchFiles) nextClose() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// snapshotIno is the inode number of a snapshot's file in a wing.
func (t *tree) snapshotIno(snap *chain.Snapshot, w wing) uint64 {
	if w == wingScratch {
		return t.scratch.ino(snap)
	}
	return imageIno(snap)
}

// overlayName is what the changes of a snapshot are kept by.
func overlayName(snap *chain.Snapshot) overlay.Name {
	return overlay.Name{Image: snap.Image, Snapshot: snap.Label()}
}

func (t *tree) overlayIdentity(snap *chain.Snapshot) overlay.Identity {
	return overlay.Identity{Name: overlayName(snap), ID: t.lib.Identity(snap), Size: snap.Size}
}

// openOverlay opens what was written over a snapshot.
func (t *tree) openOverlay(snap *chain.Snapshot) (*overlay.Overlay, error) {
	o, err := t.opts.Scratch.Open(t.overlayIdentity(snap))
	if errors.Is(err, overlay.ErrChanged) || errors.Is(err, overlay.ErrDamaged) {
		err = fmt.Errorf("%w; removing the file in %s/ drops what was written, and gives a pristine one", err, scratchName)
	}
	return o, err
}

// dropOverlay drops what was written over a snapshot. The kernel tells of the last close
// some time after it, so one that is on its way is waited for.
func (t *tree) dropOverlay(ctx context.Context, snap *chain.Snapshot) error {
	wait, cancel := t.opts.Clock.WithTimeout(ctx, releaseWait)
	defer cancel()
	for {
		closed := t.scratch.nextClose()
		err := t.tryDrop(snap)
		if !errors.Is(err, overlay.ErrBusy) {
			return err
		}
		select {
		case <-closed:
		case <-wait.Done():
			return err
		}
	}
}

// tryDrop drops what was written, and gives the file another inode number: nobody opens
// it with the old one in between.
func (t *tree) tryDrop(snap *chain.Snapshot) error {
	t.scratch.drop.Lock()
	defer t.scratch.drop.Unlock()
	err := t.opts.Scratch.Drop(overlayName(snap))
	if err == nil {
		t.scratch.dropped(snap)
	}
	return err
}

// Unlink drops the changes of a scratch file. There is nothing else that can be removed.
func (n *folderNode) Unlink(ctx context.Context, name string) syscall.Errno {
	if n.wing != wingScratch {
		return syscall.EROFS
	}
	f, errno := n.folder(ctx, "drop changes")
	if errno != 0 {
		return errno
	}
	if !f.isImage || f.child(name) != nil {
		return syscall.EROFS
	}
	image, errno := n.image(ctx, "drop changes")
	if errno != 0 {
		return errno
	}
	snap := n.snapshots(image).find(name)
	if snap == nil {
		return syscall.EROFS
	}
	if err := n.t.dropOverlay(ctx, snap); err != nil {
		return n.t.errno("drop changes", location{image: snap.Image, snapshot: snap.Label(), offset: -1}, err)
	}
	return 0
}
