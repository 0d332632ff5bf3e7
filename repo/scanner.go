package repo

import (
	"context"
	"runtime"
	"sync"
)

// A scanner reads folders with a few workers. Whoever uses it adds a folder,
// gets a look for each from looks, and decides which subfolders to add: so a
// folder is never read before its parent's look has been taken in.
type scanner struct {
	repo  *Repo
	looks chan folderLook
	// before is called, if set, with every folder right before it is read.
	before func(path string)

	ctx    context.Context
	done   sync.WaitGroup
	mu     sync.Mutex
	some   sync.Cond
	todo   []string
	closed bool
}

// startScanner starts the workers; stop must be called.
func (r *Repo) startScanner(ctx context.Context, before func(string)) *scanner {
	s := &scanner{repo: r, ctx: ctx, looks: make(chan folderLook), before: before}
	s.some.L = &s.mu
	for range r.workers() {
		s.done.Go(s.work)
	}
	return s
}

// workers is how many things are done at once: as many as there are
// processors, and more where each takes a round trip to a server.
func (r *Repo) workers() int {
	if now := r.root.Load(); now != nil && now.kind == fsNetwork {
		return 16
	}
	return min(max(runtime.GOMAXPROCS(0), 2), 8)
}

// add makes a worker read the folder at path, later.
func (s *scanner) add(path string) {
	s.mu.Lock()
	s.todo = append(s.todo, path)
	s.mu.Unlock()
	s.some.Signal()
}

// stop ends the workers and waits for them. ctx has to be done, or nothing added
// be unread.
func (s *scanner) stop() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.some.Broadcast()
	s.done.Wait()
}

func (s *scanner) work() {
	buf := make([]byte, 64<<10)
	for {
		path, ok := s.next()
		if !ok {
			return
		}
		if s.before != nil {
			s.before(path)
		}
		look := s.repo.readFolder(path, buf)
		select {
		case s.looks <- look:
		case <-s.ctx.Done():
			return
		}
	}
}

// next takes the folder that was added last: depth first keeps todo short.
func (s *scanner) next() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.todo) == 0 && !s.closed {
		s.some.Wait()
	}
	if s.closed {
		return "", false
	}
	last := len(s.todo) - 1
	path := s.todo[last]
	s.todo = s.todo[:last]
	return path, true
}
