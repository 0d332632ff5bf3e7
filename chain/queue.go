package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// What the repository tells goes into the files; a folder with a change is queued
// and read, and then the images that its files belong to (place.go) are:
//
//	repo.Watch ──> apply ──> folder ──> work ──> readFolder ──> place ──┐
//	                                                                    │
//	              settleIndex, once <── work <── refresh <── image <────┘
//
// At the start no image is built before all folders are read, where files of
// several folders may be one image's.

// settleGrace is how long images wait for files that were being written when
// the repository was first listed.
const settleGrace = 2 * time.Second

// A task is something that one worker does at a time.
type task struct {
	queued  bool
	running bool
	again   bool // something changed since it began
}

func (t *task) state() *task { return t }

// A work is a folder or an image.
type work interface{ state() *task }

// A folderState is a folder whose files are read together.
type folderState struct {
	task
	path  string
	files map[string]*fileState
}

// apply takes what the repository says into the files, and queues their folders.
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
			if l.files[f.Path] == nil {
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
	l.placeGroups()
	l.enqueueTouched()
}

func (l *Library) applyFile(c repo.Change) {
	name := c.File.Path
	f := l.files[name]
	if c.Kind == repo.Gone {
		if f != nil {
			l.forget(f)
		}
		return
	}
	dir := l.folders[path.Dir(name)]
	if dir == nil {
		dir = &folderState{path: path.Dir(name), files: map[string]*fileState{}}
		l.folders[dir.path] = dir
	}
	if f == nil {
		f = &fileState{path: name, info: l.notes[name]}
		delete(l.notes, name)
		l.files[name], dir.files[name] = f, f
		l.countBase(name, 1)
	}
	f.see(c.File)
	f.changed = true
	if l.layout.ByPath() {
		l.placeFile(f)
	}
	l.enqueue(dir)
}

// forget takes out a file that is gone.
func (l *Library) forget(f *fileState) {
	delete(l.files, f.path)
	l.countBase(f.path, -1)
	if dir := l.folders[path.Dir(f.path)]; dir != nil {
		delete(dir.files, f.path)
		if len(dir.files) == 0 && !dir.queued && !dir.running {
			delete(l.folders, dir.path)
		}
	}
	l.leaveGroup(f)
	l.leaveImage(f)
}

// enqueue queues a folder or an image, with mu held. An image waits until all
// folders have been read once, and a new one until its files have settled once.
func (l *Library) enqueue(w work) {
	img, isImage := w.(*imageState)
	if isImage && (l.held || img.current.Load() == nil && l.unread(img)) {
		return
	}
	t := w.state()
	t.again = true
	if t.queued || t.running {
		return
	}
	t.queued = true
	if !isImage {
		l.reading++
	}
	l.queue = append(l.queue, w)
	l.wake.Signal()
}

// unread tells whether an image has files that weren't read yet, or were being
// written when the repository was first listed.
func (l *Library) unread(img *imageState) bool {
	for name, f := range img.files {
		if f.changed || f.reading || l.fresh[name] {
			return true
		}
	}
	return false
}

// firstList marks the end of the first listing, and tells whether it was that.
func (l *Library) firstList() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isListed {
		return false
	}
	l.isListed = true
	if l.layout.ByPath() {
		close(l.listed)
	}
	l.release()
	l.checkIdle()
	return true
}

// release lets the images go on once all folders have been read, with mu held.
func (l *Library) release() {
	if !l.held || !l.isListed || l.reading > 0 || len(l.fresh) > 0 {
		return
	}
	l.held = false
	l.placeGroups()
	clear(l.touched)
	for _, img := range l.images {
		l.enqueue(img)
	}
	if !l.layout.ByPath() {
		close(l.listed)
	}
}

// endGrace lets the images go on whose files are still being written.
func (l *Library) endGrace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.fresh)
	l.release()
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
		next := l.queue[0]
		l.queue = l.queue[1:]
		t := next.state()
		t.queued, t.running, t.again = false, true, false
		l.busy++
		l.mu.Unlock()

		err := l.do(ctx, next)
		if err != nil && ctx.Err() == nil {
			l.log.Error("the index can't be written", slog.Any("error", err))
		}

		l.mu.Lock()
		t.running = false
		l.busy--
		if _, isFolder := next.(*folderState); isFolder {
			l.reading--
		}
		if t.again {
			l.enqueue(next)
		}
		if ctx.Err() == nil {
			l.release()
			l.checkIdle()
		}
		l.mu.Unlock()
	}
}

func (l *Library) do(ctx context.Context, w work) error {
	switch w := w.(type) {
	case *folderState:
		return l.readFolder(ctx, w)
	case *imageState:
		l.building.RLock()
		defer l.building.RUnlock()
		if err := l.refresh(ctx, w); err != nil {
			return fmt.Errorf("image %s: %w", w.name, err)
		}
	}
	return nil
}

// readFolder reads what is new in a folder, and has the images know.
func (l *Library) readFolder(ctx context.Context, dir *folderState) error {
	l.mu.Lock()
	var changed []*fileState
	for _, f := range dir.files {
		if f.changed {
			f.changed, f.reading = false, true
			changed = append(changed, f)
		}
	}
	l.mu.Unlock()
	l.building.RLock()
	err := l.scan(ctx, changed)
	l.building.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range changed {
		f.reading = false
		if err != nil {
			f.changed = true // with the next change in the folder
		} else if l.files[f.path] == f { // it may be gone
			l.placeFile(f)
			l.touched[f.image] = true
		}
	}
	l.placeGroups()
	l.enqueueTouched()
	if len(dir.files) == 0 && !dir.again {
		delete(l.folders, dir.path)
	}
	return err
}

// checkIdle asks a worker to settle the index once nothing is left to do, with
// mu held. Only then idle is closed.
func (l *Library) checkIdle() {
	if l.isIdle || !l.isListed || l.held || l.busy > 0 || len(l.queue) > 0 || len(l.fresh) > 0 {
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
