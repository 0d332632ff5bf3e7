package chain

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// What the repository tells goes into the images; an image with a change is queued,
// and a worker refreshes it:
//
//	repo.Watch ──> apply ──> enqueue ──> work ──> refresh (image.go)
//	                                       └────> settleIndex, once, when nothing is left

// settleGrace is how long images wait for files that were being written when
// the repository was first listed.
const settleGrace = 2 * time.Second

// apply takes what the repository says into the images, and queues these.
func (l *Library) apply(changes []repo.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		f := c.File
		delete(l.fresh, f.Path)
		if f.Pin.Inode == 0 || f.State == repo.Hidden {
			if c.Kind == repo.Gone {
				delete(l.places, f.Path)
			} else {
				l.places[f.Path] = f
			}
			if l.file(f.Path) == nil {
				continue
			}
			if f.State != repo.Unreadable && c.Kind != repo.Gone {
				c.Kind = repo.Gone
			}
		} else {
			delete(l.places, f.Path)
		}
		if c.Initial && f.State == repo.Unsettled {
			l.fresh[f.Path] = true
		}
		l.applyFile(c)
	}
}

func (l *Library) applyFile(c repo.Change) {
	name := l.imageName(c.File.Path)
	img := l.images[name]
	if img == nil {
		if c.Kind == repo.Gone {
			return
		}
		img = &imageState{name: name, files: map[string]*fileState{}, known: make(chan struct{})}
		l.images[name] = img
	}
	if c.Kind == repo.Gone {
		delete(img.files, c.File.Path)
	} else {
		f := img.files[c.File.Path]
		if f == nil {
			f = &fileState{path: c.File.Path, info: l.notes[c.File.Path]}
			delete(l.notes, c.File.Path)
			img.files[c.File.Path] = f
		}
		f.see(c.File)
	}
	l.enqueue(img)
}

// enqueue queues an image, with mu held. A new one waits until its files have
// settled once.
func (l *Library) enqueue(img *imageState) {
	if img.current.Load() == nil {
		for name := range img.files {
			if l.fresh[name] {
				return
			}
		}
	}
	img.again = true
	if img.queued || img.running {
		return
	}
	img.queued = true
	l.queue = append(l.queue, img)
	l.wake.Signal()
}

// firstList marks the end of the first listing, and tells whether it was that.
func (l *Library) firstList() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isListed {
		return false
	}
	l.isListed = true
	close(l.listed)
	l.checkIdle()
	return true
}

// endGrace lets the images go on whose files are still being written.
func (l *Library) endGrace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.fresh)
	for _, img := range l.images {
		if img.current.Load() == nil {
			l.enqueue(img)
		}
	}
	l.checkIdle()
}

// work takes images from the queue until the end.
func (l *Library) work(ctx context.Context) {
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.settle && !l.ended {
			l.wake.Wait()
		}
		if l.ended {
			l.mu.Unlock()
			return
		}
		if l.settle {
			l.settle = false
			l.mu.Unlock()
			if ctx.Err() == nil {
				l.settleIndex()
			}
			continue
		}
		img := l.queue[0]
		l.queue = l.queue[1:]
		img.queued, img.running, img.again = false, true, false
		l.busy++
		l.mu.Unlock()

		l.building.RLock()
		err := l.refresh(ctx, img)
		l.building.RUnlock()
		if err != nil && ctx.Err() == nil {
			l.log.Error("image can't be indexed", slog.String("image", img.name), slog.Any("error", err))
		}

		l.mu.Lock()
		img.running = false
		l.busy--
		if img.again {
			l.enqueue(img)
		}
		if ctx.Err() == nil {
			l.checkIdle()
		}
		l.mu.Unlock()
	}
}

// checkIdle asks a worker to settle the index once nothing is left to do, with
// mu held. Only then idle is closed.
func (l *Library) checkIdle() {
	if l.isIdle || !l.isListed || l.busy > 0 || len(l.queue) > 0 || len(l.fresh) > 0 {
		return
	}
	l.isIdle = true
	if len(l.images) == 0 {
		close(l.idle)
		return
	}
	l.settle = true
	l.wake.Signal()
}

// settleIndex makes the first indexing durable and drops what no file needs
// any more, unless a part of the repository couldn't be read.
func (l *Library) settleIndex() {
	defer close(l.idle)
	l.mu.Lock()
	live := map[index.NodeID]bool{}
	whole := true
	for _, img := range l.images {
		for _, id := range img.live {
			live[id] = true
		}
	}
	for _, p := range l.places {
		whole = whole && p.State != repo.Unreadable
	}
	stale := map[string][]byte{}
	for name := range l.notes {
		stale[filePrefix+name] = nil
	}
	l.mu.Unlock()
	err := l.ix.Sync()
	if err == nil && whole {
		l.building.Lock()
		err = errors.Join(l.ix.PutNotes(stale), l.ix.Retain(func(id index.NodeID) bool { return live[id] }))
		l.building.Unlock()
	}
	if err != nil {
		l.log.Error("index can't be written", slog.Any("error", err))
	}
}
