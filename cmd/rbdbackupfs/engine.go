package main

import (
	"context"
	"log/slog"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/internal/overlay"
	"rbdbackupfs/internal/target"
)

// What the commands need of the packages underneath. adapter.go has the real
// ones; tests of the commands may use others.

// A backend opens repositories and knows mounts.
type backend interface {
	// OpenRepo opens the folder tree at dir.
	OpenRepo(dir string, o repoOptions) (repository, error)
	// CheckOverlap fails where one of the places lies in another.
	CheckOverlap(places ...place) error
	// CheckTree fails for mount options that can't be used.
	CheckTree(o treeOptions) error
	// Umount ends the mount at an absolute mountpoint, whoever serves it.
	Umount(mountpoint string) error
	// Detach takes it out of the folder tree at once; whoever uses it keeps it.
	Detach(mountpoint string) error
	// OpenTarget opens a folder or a cluster to restore to, or a single file.
	OpenTarget(ctx context.Context, where targetURL, log *slog.Logger) (target.Target, error)
	// CephVersion is that of the client library, empty without one.
	CephVersion() string
}

type repoOptions struct {
	Rescan time.Duration // 0: as the file system needs it
	Only   []string      // paths in it; nil: everything
	Log    *slog.Logger
}

type libraryOptions struct {
	Index     string            // a folder that the caller has locked, or ":memory:"
	Layout    layoutChoice      // but for its Root
	Cache     string            // a folder, "" for none
	CacheIn   string            // a folder in which one is made that goes with the library; "" for none
	CacheSize int64             // bytes
	Given     map[string]string // files that the user named, by path, as they were typed
}

// A repository is an opened folder tree.
type repository interface {
	Root() string // absolute, symbolic links resolved
	ID() string   // stable, fit for a file name
	// Open opens the index and the library on top of it.
	Open(o libraryOptions, log *slog.Logger) (library, error)
	Close() error
}

// A library is *chain.Library, and the way to mount it.
type library interface {
	Run(ctx context.Context) error
	Listed() <-chan struct{}
	Idle() <-chan struct{}
	Names() []string
	Image(ctx context.Context, name string) (*chain.Image, error)
	OpenView(s *chain.Snapshot) (*chain.View, error)
	Status() chain.Status
	Subscribe(notify func(chain.Event)) (cancel func())
	// Close closes the library and its index.
	Close() error
	Mount(mountpoint string, o treeOptions) (tree, error)
}

// treeOptions are what the mounted tree needs to know.
type treeOptions struct {
	AllowOther *bool   // nil: root's mounts only
	UID, GID   *uint32 // nil: the mounting user's
	Umask      uint32
	LookupWait time.Duration
	ReadAhead  int      // KiB; 0: the tree's default, below 0 the kernel's
	Extra      []string // the rest of -o
	Status     func() ([]byte, error)
	Log        *slog.Logger

	Scratch              *overlay.Store // nil: no scratch/
	Importer             fs.Importer    // nil: no import/
	ImportUID, ImportGID *uint32        // nil: UID and GID
}

// A tree is a mounted library.
type tree interface {
	// Done is closed when the tree is unmounted, whoever did it.
	Done() <-chan struct{}
	// Unused is closed when no scratch file is open any more, after one was.
	Unused() <-chan struct{}
	// Unmount ends it; where something uses it, the error is a fs.ErrBusy that
	// says what.
	Unmount() error
}

// A place is a folder and what to call it.
type place struct{ name, path string }
