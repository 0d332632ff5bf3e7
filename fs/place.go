package fs

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const maxSymlinks = 40

// A place is a path without symlinks, and the mounts at that moment.
type place struct {
	path   string
	mounts []mountEntry
}

// resolvePlace resolves path as far as it exists. A mountpoint itself is never
// touched: one whose process is stuck would block for good, one whose process
// is gone gives ENOTCONN.
func resolvePlace(path string) (place, error) {
	mounts, err := readMountinfo()
	if err != nil {
		return place{}, err
	}
	p := place{path: absolute(path), mounts: mounts}
	for range maxSymlinks {
		if _, mounted := p.mounted(); mounted || p.path == "/" {
			return p, nil
		}
		dir, err := resolveExisting(filepath.Dir(p.path))
		if err != nil {
			return place{}, err
		}
		p.path = filepath.Join(dir, filepath.Base(p.path))
		if _, mounted := p.mounted(); mounted {
			return p, nil
		}
		target := readlink(p.path)
		if target == "" {
			return p, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		p.path = filepath.Clean(target)
	}
	return place{}, &iofs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
}

// readlink returns the target of a symlink, empty for anything else and for
// nothing at all.
func readlink(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return target
}

// resolveExisting resolves the symlinks of the part of dir that exists.
func resolveExisting(dir string) (string, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil || !errors.Is(err, iofs.ErrNotExist) || dir == "/" {
		return resolved, err
	}
	parent, err := resolveExisting(filepath.Dir(dir))
	return filepath.Join(parent, filepath.Base(dir)), err
}

// mounted returns the topmost mount exactly at p.
func (p place) mounted() (mountEntry, bool) {
	for i := len(p.mounts) - 1; i >= 0; i-- {
		if p.mounts[i].path == p.path {
			return p.mounts[i], true
		}
	}
	return mountEntry{}, false
}

// inside returns the file system that p lies on, as "major:minor", and the path
// within it: the same for each bind mount of one folder.
func (p place) inside() (dev, path string) {
	var best mountEntry
	for _, entry := range p.mounts {
		if below(p.path, entry.path) && len(entry.path) >= len(best.path) {
			best = entry
		}
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(p.path, best.path), "/")
	return best.dev, filepath.Join(best.root, rest)
}
