package repo

import (
	"fmt"
	"maps"
	"slices"
)

// An only is the part of the tree that Options.Only names: for each folder on the
// way the names in it. nil is all of the tree.
type only map[string][]string

func newOnly(paths []string) (only, error) {
	if paths == nil {
		return nil, nil //nolint:nilnil // no restriction is a value of its own
	}
	sets := make(map[string]map[string]bool)
	for _, path := range paths {
		if !validRel(path) {
			return nil, fmt.Errorf("%q is no path below the repository", path)
		}
		for path != "." {
			dir, name := split(path)
			if sets[dir] == nil {
				sets[dir] = make(map[string]bool)
			}
			sets[dir][name] = true
			path = dir
		}
	}
	o := make(only)
	for dir, names := range sets {
		o[dir] = slices.Sorted(maps.Keys(names))
	}
	return o, nil
}

// has tells whether a path is named, or a folder on the way to one that is.
func (o only) has(path string) bool {
	if o == nil || path == "." {
		return true
	}
	dir, name := split(path)
	_, found := slices.BinarySearch(o[dir], name)
	return found
}

// readNamed is readEntries for the names of Options.Only. The folder isn't read: it
// may be large, or closed to this user.
func (r *Repo) readNamed(dirfd int, look *folderLook) error {
	for _, name := range r.only[look.path] {
		if err := look.add(dirfd, name, r.now(), 0, true); err != nil {
			return err
		}
	}
	return nil
}
