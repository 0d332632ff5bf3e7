package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"rbdbackupfs/internal/daemon"
)

const (
	// memoryIndex is the --index that lies in no folder.
	memoryIndex = ":memory:"
	// journalFolder is where an index folder keeps the journal of restores.
	journalFolder = "imports"
	// lockPatience is how long a command that has the index is waited for.
	lockPatience = 10 * time.Second
	// closePatience is how long an index may take to be closed.
	closePatience = 30 * time.Second
)

// repoFlags are the flags of every command that takes REPO.
type repoFlags struct {
	index  string
	links  []string
	rescan time.Duration
}

func (f *repoFlags) addIndex(flags *pflag.FlagSet) {
	flags.StringVar(&f.index, "index", "", "`folder` of the index, or :memory: (default /var/lib/rbdbackupfs/ID for root,\nelse $XDG_STATE_HOME/rbdbackupfs/ID)")
}

func (f *repoFlags) add(flags *pflag.FlagSet) {
	f.addIndex(flags)
	flags.StringArrayVar(&f.links, "link", nil, "`FILE=SNAPSHOT`: what a backup file (path below REPO) holds, where it\ndoesn't say it itself; may be given several times")
}

// linkMap splits the --link flags at the last '='.
func (f *repoFlags) linkMap() (map[string]string, error) {
	links := make(map[string]string)
	for _, link := range f.links {
		at := strings.LastIndexByte(link, '=')
		if at < 1 || at == len(link)-1 {
			return nil, usagef("--link %q is not FILE=SNAPSHOT", link)
		}
		links[filepath.ToSlash(filepath.Clean(link[:at]))] = link[at+1:]
	}
	return links, nil
}

// indexFolder is where the index of repo lies: absolute, or memoryIndex.
func (f *repoFlags) indexFolder(b backend, repo repository) (string, error) {
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
	dir, err := resolvePath(dir)
	if err != nil {
		return "", err
	}
	// The repository is never written to.
	return dir, b.CheckOverlap(place{"REPO", repo.Root()}, place{"index", dir})
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

// A session is a repository that this process has opened itself, with the lock
// on its index.
type session struct {
	root  string
	index string
	lib   library

	repo   repository
	lock   *daemon.Lock // nil for an index in memory
	cancel context.CancelFunc
	failed chan error // what Run ended with, closed after that

	patience time.Duration // of Close
}

// openSession locks the index and starts to list and index the repository.
func openSession(ctx context.Context, repo repository, index string, links map[string]string, owner daemon.Owner, log *slog.Logger) (*session, error) {
	s := &session{root: repo.Root(), index: index, repo: repo, failed: make(chan error, 1), patience: closePatience}
	if index != memoryIndex {
		lock, err := daemon.Acquire(ctx, index, owner, lockPatience)
		if err != nil {
			return nil, err
		}
		s.lock = lock
	}
	lib, err := repo.Open(index, maps.Clone(links), log)
	if err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	s.lib = lib
	// A mount goes on reading while it waits for its users to end.
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(s.failed)
		if err := lib.Run(ctx); err != nil && ctx.Err() == nil {
			s.failed <- err
		}
	}()
	return s, nil
}

// Close stops everything and gives the lock back. It doesn't wait for ever: the
// store behind the index tries again and again to write to a folder that was
// deleted. What is lost with it can be made again.
func (s *session) Close() error {
	s.cancel()
	closed := make(chan error, 1)
	go func() {
		for range s.failed {
			// Run's error was for those who waited.
		}
		closed <- s.lib.Close()
	}()
	patience, stop := timer(s.patience)
	defer stop()
	select {
	case err := <-closed:
		return errors.Join(err, s.unlock())
	case <-patience:
		return errors.Join(fmt.Errorf("the index %s can't be closed: is its disk full, or was it deleted? It is a cache and can be made again", s.index), s.unlock())
	}
}

func (s *session) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Release()
}
