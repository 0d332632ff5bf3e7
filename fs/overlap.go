package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// A Place is a folder that a mount works with, and what to call it.
type Place struct {
	Name string // "REPO", "index", "MOUNT"
	Path string // need not exist
}

// CheckOverlap reports an *Error with ErrOverlap if any two places are the same
// folder or one lies in the other: by resolved path, through bind mounts, or
// as the same (device, inode). A mount inside what it reads would deadlock.
func CheckOverlap(places ...Place) error {
	spots := make([]spot, len(places))
	for i, p := range places {
		s, err := newSpot(p)
		if err != nil {
			return &Error{Op: "check", Path: absolute(p.Path), Err: err}
		}
		spots[i] = s
	}
	for i, a := range spots {
		for _, b := range spots[i+1:] {
			outer, inner := a, b
			if !a.contains(b) {
				outer, inner = b, a
			}
			if outer.contains(inner) {
				return overlapError(outer, inner)
			}
		}
	}
	return nil
}

func overlapError(outer, inner spot) error {
	what := fmt.Sprintf("%s is or lies in %s %s", inner.Name, outer.Name, outer.place.path)
	return &Error{
		Op: "check", Path: inner.place.path, Err: fmt.Errorf("%s: %w", what, ErrOverlap),
		Hint: "Use a folder for " + inner.Name + " that has nothing to do with " + outer.Name,
	}
}

// A fileID is the same for each path to one folder.
type fileID struct{ dev, ino uint64 }

// A spot is a place in all the ways it can be compared.
type spot struct {
	Place
	place     place
	dev, path string   // the file system and the path within it
	id        fileID   // zero if it doesn't exist
	ancestors []fileID // itself first, as far as they exist
}

func newSpot(p Place) (spot, error) {
	resolved, err := resolvePlace(p.Path)
	if err != nil {
		return spot{}, err
	}
	s := spot{Place: p, place: resolved}
	s.dev, s.path = resolved.inside()
	entry, isMount := resolved.mounted()
	for path := resolved.path; ; path = filepath.Dir(path) {
		// A mount of ours isn't touched: its process may be gone or stuck.
		if path != resolved.path || !isMount || entry.fsType != FSType {
			s.add(path, path == resolved.path)
		}
		if path == "/" {
			return s, nil
		}
	}
}

func (s *spot) add(path string, self bool) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		id := fileID{sys.Dev, sys.Ino}
		s.ancestors = append(s.ancestors, id)
		if self {
			s.id = id
		}
	}
}

// contains reports whether other is s or lies in it.
func (s spot) contains(other spot) bool {
	if below(other.place.path, s.place.path) || s.dev == other.dev && below(other.path, s.path) {
		return true
	}
	if s.id == (fileID{}) {
		return false
	}
	for _, id := range other.ancestors {
		if id == s.id {
			return true
		}
	}
	return false
}
