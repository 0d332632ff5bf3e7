package guestfs

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// A FileSystem is one that was opened. It is safe for concurrent use.
type FileSystem struct {
	// Kind is what it is: "ext2", "ext3", "ext4", "fat12", "fat16" or "fat32".
	Kind string
	// Label is its name, "" for none.
	Label string
	// Dirty says that it was in use, and that changes are in its journal that aren't
	// seen: it is elsewhere, damaged, or has fast commits.
	Dirty bool
	// Owned says that its files have owners and modes: FAT has none.
	Owned bool

	volume volume
	blocks int64 // how many of them fit into the image
}

// A volume is one kind of file system. Its errors name no file: the callers do.
type volume interface {
	// root is the topmost folder.
	root() (File, error)
	// list visits what is in a folder, without "." and "..", as it lies there.
	list(f *File, visit func(Entry) error) error
	// stat opens what an entry of this volume stands for.
	stat(e Entry) (File, error)
	// target is where a symbolic link leads.
	target(f *File) (string, error)
	// run is what is at off, which is in [0, f.Size), and how far that goes.
	run(f *File, off int64) (run, error)
	// same says whether two names are the same one in this file system.
	same(a, b string) bool
	// bytes are those of the whole file system.
	bytes() io.ReaderAt
}

// Open opens the file system that begins at byte 0 of r and is at most size bytes.
// Errors: ErrNone, ErrUnsupported for one that is known and can't be read,
// ErrCorrupt, and those of r.
func Open(r io.ReaderAt, size int64) (_ *FileSystem, err error) {
	kind := ""
	defer func() { caught(kind, "", &err) }()
	c := newPages(r, size)
	if kind, err = identify(c); err != nil {
		return nil, err
	}
	switch {
	case kind == "":
		return nil, ErrNone
	case strings.HasPrefix(kind, "ext"):
		return openExt(c, r)
	case strings.HasPrefix(kind, "fat"):
		return openFAT(c, r)
	}
	return nil, &Error{Kind: kind, Offset: -1, Err: unreadable(kind)}
}

// Identify tells the kind of what begins at byte 0 of r: "ext4", "xfs", "lvm", "" for
// what isn't known. Errors are those of r.
func Identify(r io.ReaderAt, size int64) (kind string, err error) {
	defer caught("", "", &err)
	return identify(newPages(r, size))
}

// Readable tells whether Open reads file systems of a kind.
func Readable(kind string) bool {
	return slices.Contains([]string{"ext2", "ext3", "ext4", "fat12", "fat16", "fat32"}, kind)
}

// Root is the topmost folder.
func (s *FileSystem) Root() (_ *File, err error) {
	defer caught(s.Kind, "/", &err)
	f, err := s.volume.root()
	if err != nil {
		return nil, err
	}
	return s.opened(f, "/"), nil
}

func (s *FileSystem) opened(f File, path string) *File {
	f.fs, f.Path = s, path
	return &f
}

// An Entry is a name in a folder.
type Entry struct {
	// Name is any bytes but '/' and NUL, and neither "", "." nor "..".
	Name string

	number uint64      // ext: the inode
	slot   *[32]byte   // FAT: what the folder says of it
	fs     *FileSystem // nil inside of a volume
	parent string
}

// Path is where it is in the file system.
func (e Entry) Path() string { return join(e.parent, e.Name) }

// Open opens what the name stands for; symbolic links aren't followed.
func (e Entry) Open() (_ *File, err error) {
	defer caught(e.fs.Kind, e.Path(), &err)
	f, err := e.fs.volume.stat(e)
	if err != nil {
		return nil, err
	}
	return e.fs.opened(f, e.Path()), nil
}

// maxEntries bounds a folder, and with it the memory that it takes.
const maxEntries = 4 << 20

// Entries are what is in a folder, by name. Where a part of the folder can't be
// read, it gives an error and what it has found so far.
func (f *File) Entries() (list []Entry, err error) {
	defer caught(f.fs.Kind, f.Path, &err)
	if !f.IsDir() {
		return nil, &Error{Offset: -1, Err: errors.New("not a folder")}
	}
	err = f.fs.volume.list(f, func(e Entry) error {
		if len(list) >= maxEntries {
			return unsupported("more than %d names in one folder", maxEntries)
		}
		e.fs, e.parent = f.fs, f.Path
		list = append(list, e)
		return nil
	})
	slices.SortStableFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// errFound ends a search.
var errFound = errors.New("found")

// entry finds a name in a folder. Errors: fs.ErrNotExist.
func (f *File) entry(name string) (found Entry, err error) {
	near := false
	err = f.fs.volume.list(f, func(e Entry) error {
		switch {
		case e.Name == name:
			found, near = e, true
			return errFound
		case !near && f.fs.volume.same(e.Name, name):
			found, near = e, true
		}
		return nil
	})
	if errors.Is(err, errFound) || err == nil && near {
		found.fs, found.parent = f.fs, f.Path
		return found, nil
	}
	if err == nil {
		err = &Error{Path: join(f.Path, name), Offset: -1, Err: fs.ErrNotExist}
	}
	return found, err
}

// join is a path in the file system.
func join(folder, name string) string { return strings.TrimSuffix(folder, "/") + "/" + name }

// checkName refuses what no system calls a file: as a part of a path it would lead
// elsewhere.
func checkName(name string, off int64) error {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return corrupt(off, "a name that can't be (%q)", name)
	}
	return nil
}
