package fs

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"rbdbackupfs/internal/treename"
)

// A wing is a part of the tree that has a folder for each image.
type wing uint8

// The wings.
const (
	wingImages  wing = iota // what is backed up
	wingScratch             // the same, to write to
)

// wings are those of the mount.
func (t *tree) wings() []wing {
	if t.opts.Scratch == nil {
		return []wing{wingImages}
	}
	return []wing{wingImages, wingScratch}
}

// name is that of the folder below the root.
func (w wing) name() string {
	if w == wingScratch {
		return scratchName
	}
	return imagesName
}

// ino is the inode number of that folder.
func (w wing) ino() uint64 {
	if w == wingScratch {
		return makeIno(inoRoot, serialScratch, 0)
	}
	return makeIno(inoRoot, serialImages, 0)
}

// mode is that of all folders in it. In scratch/ files are removed.
func (w wing) mode() uint32 {
	if w == wingScratch {
		return scratchFolderMode
	}
	return folderMode
}

// A folder is one component of one or more image names. Immutable once built.
type folder struct {
	path     string // components up to here, '/' between; empty for images/
	file     string // its name in the tree
	serial   uint64
	parent   *folder
	isImage  bool
	children []*folder // sorted by file
}

// ino is the folder's inode number.
func (f *folder) ino(w wing) uint64 {
	if f.parent == nil {
		return w.ino()
	}
	return makeIno(inoFolder, f.serial, uint8(w))
}

// parentIno is the inode number of "..".
func (f *folder) parentIno(w wing) uint64 {
	if f.parent == nil {
		return makeIno(inoRoot, serialRoot, 0)
	}
	return f.parent.ino(w)
}

// child finds a child by its name in the tree.
func (f *folder) child(file string) *folder {
	i, found := slices.BinarySearchFunc(f.children, file, func(c *folder, file string) int {
		return cmp.Compare(c.file, file)
	})
	if !found {
		return nil
	}
	return f.children[i]
}

// A folderIndex has the folders of images/. It is built when it is asked for
// after the set of images changed. A folder keeps its serial while it exists; one
// that comes back has a new one, since the kernel was told that the old is gone.
type folderIndex struct {
	names   interface{ Names() []string }
	version atomic.Uint64 // raised by invalidate

	mu     sync.Mutex
	built  uint64 // version that byPath was built from
	byPath map[string]*folder
	last   uint64 // serial
}

func newFolderIndex(names interface{ Names() []string }) *folderIndex {
	x := &folderIndex{names: names}
	x.version.Store(1)
	return x
}

// invalidate has the folders built anew before the next get. It takes no lock.
func (x *folderIndex) invalidate() { x.version.Add(1) }

// get returns the folder at a path, nil if there is none.
func (x *folderIndex) get(path string) *folder {
	x.mu.Lock()
	defer x.mu.Unlock()
	if version := x.version.Load(); version != x.built {
		x.build(x.names.Names())
		x.built = version
	}
	return x.byPath[path]
}

func (x *folderIndex) build(names []string) {
	old := x.byPath
	x.byPath = map[string]*folder{"": {}}
	for _, name := range names {
		x.add(name, old).isImage = true
	}
	for _, f := range x.byPath {
		slices.SortFunc(f.children, func(a, b *folder) int { return cmp.Compare(a.file, b.file) })
	}
}

// add makes the folder at path and those above it.
func (x *folderIndex) add(path string, old map[string]*folder) *folder {
	if f := x.byPath[path]; f != nil {
		return f
	}
	dir, base := splitImage(path)
	parent := x.add(dir, old)
	f := &folder{path: path, file: treename.EncodeComponent(base), parent: parent}
	if was := old[path]; was != nil {
		f.serial = was.serial
	} else {
		x.last++
		f.serial = x.last
	}
	x.byPath[path] = f
	parent.children = append(parent.children, f)
	return f
}

// splitImage splits an image's name before its last component.
func splitImage(path string) (dir, base string) {
	if at := strings.LastIndexByte(path, '/'); at >= 0 {
		return path[:at], path[at+1:]
	}
	return "", path
}

// pool is the first component of an image's name.
func pool(image string) string {
	first, _, _ := strings.Cut(image, "/")
	return first
}
