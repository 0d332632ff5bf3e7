package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// repoFlags are the flags of every command that takes REPO.
type repoFlags struct {
	layoutFlags
	index     string
	cache     string
	cacheSize string
	rescan    time.Duration
}

func (f *repoFlags) addIndex(flags *pflag.FlagSet) {
	flags.StringVar(&f.index, "index", "", "`folder` of the index, or :memory: (default /var/lib/rbdbackupfs/ID for root,\nelse $XDG_STATE_HOME/rbdbackupfs/ID)")
}

func (f *repoFlags) add(flags *pflag.FlagSet) {
	f.addIndex(flags)
	flags.StringVar(&f.cache, "cache", "", "`folder` for what is hard to reach in compressed files, or \"none\"\n(default cache/ in the index)")
	flags.StringVar(&f.cacheSize, "cache-size", "16GiB", "`size` that the cache may have")
	f.addLayout(flags)
}

// check tells of what is wrong in the flags themselves.
func (f *repoFlags) check() error {
	err := f.checkLayout()
	if err == nil {
		_, err = parseCacheSize(f.cacheSize)
	}
	return err
}

// library is what the flags say about opening a repository with an index, but for
// the layout.
func (f *repoFlags) library(b backend, repo repository, index string) (o libraryOptions, err error) {
	o.Index = index
	if o.CacheSize, err = parseCacheSize(f.cacheSize); err != nil {
		return o, err
	}
	o.Cache, err = f.cacheFolder(b, repo, index)
	return o, err
}

func parseCacheSize(s string) (int64, error) {
	const least = 64 << 20
	n, err := humanize.ParseBytes(s)
	if err != nil || n < least || n > math.MaxInt64 {
		return 0, usagef("--cache-size %q is not a size of at least 64MiB", s)
	}
	return int64(n), nil
}

// cacheFolder is where what is unpacked is kept: absolute, or "" for nowhere.
func (f *repoFlags) cacheFolder(b backend, repo repository, index string) (string, error) {
	dir, err := f.cachePlace(repo, index)
	if err != nil || dir == "" {
		return dir, err
	}
	return dir, b.CheckOverlap(place{"REPO", repo.Root()}, place{"cache", dir})
}

// cachePlace is the same for what isn't a repository, as indexPlace is.
func (f *repoFlags) cachePlace(repo repository, index string) (string, error) {
	switch {
	case f.cache == "none", f.cache == "" && index == memoryIndex:
		return "", nil
	case f.cache == "":
		return filepath.Join(index, "cache"), nil
	}
	dir, err := resolvePath(f.cache)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, repo.ID()), nil
}

// indexFolder is where the index of repo lies: absolute, or memoryIndex.
func (f *repoFlags) indexFolder(b backend, repo repository) (string, error) {
	dir, err := f.indexPlace(repo)
	if err != nil || dir == memoryIndex {
		return dir, err
	}
	// The repository is never written to.
	return dir, b.CheckOverlap(place{"REPO", repo.Root()}, place{"index", dir})
}

// indexPlace is the same for what isn't a repository, but only a folder that some
// files have in common: that may be a home folder, in which the index lies.
func (f *repoFlags) indexPlace(repo repository) (string, error) {
	dir := f.index
	switch {
	case dir == memoryIndex:
		return dir, nil
	case dir != "":
	case os.Geteuid() == 0:
		dir = filepath.Join("/var/lib/rbdbackupfs", repo.ID())
	default:
		state, err := stateHome()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(state, "rbdbackupfs", repo.ID())
	}
	return resolvePath(dir)
}

func stateHome() (string, error) {
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return state, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the index: %w; give one with --index DIR", err)
	}
	return filepath.Join(home, ".local", "state"), nil
}
