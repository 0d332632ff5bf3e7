package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

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

// A session is a repository that this process has opened itself, with the lock
// on its index.
type session struct {
	root   string
	index  string
	layout layoutChoice
	lib    library

	repo   repository
	lock   *daemon.Lock // nil for an index in memory
	cancel context.CancelFunc
	failed chan error // what Run ended with, closed after that

	patience time.Duration // of Close
}

// openSession locks the index and starts to list and index the repository.
func openSession(ctx context.Context, repo repository, o libraryOptions, owner daemon.Owner, log *slog.Logger) (*session, error) {
	s := &session{root: repo.Root(), index: o.Index, layout: o.Layout, repo: repo, failed: make(chan error, 1), patience: closePatience}
	if o.Index != memoryIndex {
		lock, err := daemon.Acquire(ctx, o.Index, owner, lockPatience)
		if err != nil {
			return nil, err
		}
		s.lock = lock
	}
	lib, err := repo.Open(o, log)
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
