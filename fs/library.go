package fs

import (
	"context"

	"rbdbackupfs/chain"
)

// A Library is what the tree shows. *chain.Library is one, through FromChain.
// All methods may be called at the same time.
type Library interface {
	// Listed is closed once the images' names are known.
	Listed() <-chan struct{}
	// Names returns the names of the images, sorted.
	Names() []string
	// Image returns an image, and waits until its chain is known or ctx ends. If
	// it is known it comes back at once, even when ctx has ended. Errors:
	// chain.ErrNotFound, chain.ErrPending when ctx ended first.
	Image(ctx context.Context, name string) (*chain.Image, error)
	// OpenView gives the bytes of a snapshot. Errors: chain.ErrNotFound when it
	// is gone, chain.ErrDamaged.
	OpenView(*chain.Snapshot) (View, error)
	// Identity differs between snapshots whose bytes may differ, also of different
	// processes.
	Identity(*chain.Snapshot) string
	// Subscribe has every later change told, after it is visible. The callback
	// returns at once.
	Subscribe(func(chain.Event)) (cancel func())
	// Status is shown in status.json.
	Status() chain.Status
}

// A View is the bytes of one snapshot. All methods but Close may be called at
// the same time.
type View interface {
	// ReadAt fills p from off, or gives an error: below the snapshot's size never
	// fewer bytes without one.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// NextData returns the first offset at or past off that holds data,
	// chain.ErrNoData if there is none.
	NextData(ctx context.Context, off int64) (int64, error)
	// NextHole returns the first offset at or past off that holds none; the
	// snapshot's size counts as one. chain.ErrNoData at or past the size.
	NextHole(ctx context.Context, off int64) (int64, error)
	Close() error
}

// FromChain makes a Library of the real one.
func FromChain(lib *chain.Library) Library { return chainLibrary{lib} }

type chainLibrary struct{ *chain.Library }

// Identity is what the index knows the snapshot by.
func (l chainLibrary) Identity(snap *chain.Snapshot) string { return snap.Identity() }

// OpenView returns an interface, and nil where there is an error.
func (l chainLibrary) OpenView(snap *chain.Snapshot) (View, error) {
	view, err := l.Library.OpenView(snap)
	if err != nil {
		return nil, err
	}
	return view, nil
}
