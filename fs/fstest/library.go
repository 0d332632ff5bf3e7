// Package fstest has what tests of the tree need: a library made of memory, and
// the one way to mount it, which checks afterwards that nothing is left.
package fstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/internal/parttable"
)

// A Library is a fs.Library whose images a test sets.
type Library struct {
	listed  chan struct{}
	views   atomic.Int64
	asked   atomic.Int64
	waiting chan string // gets the name of an image that somebody waits for

	mu         sync.Mutex
	images     map[string]*state
	contents   map[uint64]*Content // by generation
	generation uint64
	listeners  Listeners
	nextID     int
}

// state is an image: ready is closed once image is set.
type state struct {
	ready chan struct{}
	image *chain.Image
}

var _ fs.Library = (*Library)(nil)

// New returns a library without images that isn't listed.
func New() *Library {
	return &Library{
		listed: make(chan struct{}), waiting: make(chan string, 1024),
		images: map[string]*state{}, contents: map[uint64]*Content{}, listeners: Listeners{},
	}
}

// List says that all names are known. The snapshots come later or are there.
func (l *Library) List() *Library {
	close(l.listed)
	return l
}

// Listed implements fs.Library.
func (l *Library) Listed() <-chan struct{} { return l.listed }

// Waiting gets the name of each image that somebody begins to wait for.
func (l *Library) Waiting() <-chan string { return l.waiting }

// OpenViews is the number of views that are open.
func (l *Library) OpenViews() int64 { return l.views.Load() }

// Asked is how often Image was called.
func (l *Library) Asked() int64 { return l.asked.Load() }

// Names implements fs.Library.
func (l *Library) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.images))
}

// Image implements fs.Library.
func (l *Library) Image(ctx context.Context, name string) (*chain.Image, error) {
	l.asked.Add(1)
	l.mu.Lock()
	s := l.images[name]
	l.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("image %q: %w", name, chain.ErrNotFound)
	}
	select {
	case <-s.ready:
		return s.get(l), nil
	default:
	}
	if ctx.Err() == nil {
		l.waiting <- name
	}
	select {
	case <-s.ready:
		return s.get(l), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("image %q: %w", name, chain.ErrPending)
	}
}

func (s *state) get(l *Library) *chain.Image {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.image
}

// OpenView implements fs.Library.
func (l *Library) OpenView(snap *chain.Snapshot) (fs.View, error) {
	l.mu.Lock()
	content := l.contents[snap.Generation]
	l.mu.Unlock()
	if content == nil {
		return nil, fmt.Errorf("snapshot %q: %w", snap.Label(), chain.ErrNotFound)
	}
	l.views.Add(1)
	return &view{Content: content, onClose: func() { l.views.Add(-1) }}, nil
}

// Identity implements fs.Library.
func (l *Library) Identity(snap *chain.Snapshot) string { return fmt.Sprint(snap.Generation) }

// Subscribe implements fs.Library.
func (l *Library) Subscribe(listener func(chain.Event)) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	id := l.nextID
	l.listeners[id] = listener
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.listeners, id)
	}
}

// Status implements fs.Library.
func (l *Library) Status() chain.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return chain.Status{Repo: "/backup", Images: len(l.images), Problems: []chain.Problem{}}
}

// Pending adds an image whose chain isn't known.
func (l *Library) Pending(name string) {
	l.mu.Lock()
	l.images[name] = &state{ready: make(chan struct{})}
	l.mu.Unlock()
	l.Emit(chain.Event{Image: name, Appear: true})
}

// A Spec is a snapshot to serve.
type Spec struct {
	Name, Of string
	Content  *Content
	ModTime  time.Time
	// Partitions are those of the disk.
	Partitions []parttable.Partition
	Meta       map[string]string
	Files      []string // its chain; by default one file
	// Keep is an earlier snapshot to serve again instead, unchanged.
	Keep *chain.Snapshot
}

// Set makes an image serve these snapshots; the last one is the latest.
func (l *Library) Set(name string, specs ...Spec) *chain.Image {
	l.mu.Lock()
	s, known := l.images[name]
	if !known {
		s = &state{ready: make(chan struct{})}
		l.images[name] = s
	}
	image := &chain.Image{Name: name, State: chain.StateReady}
	kept := map[*chain.Snapshot]bool{}
	event := chain.Event{Image: name, Appear: !known, Latest: true}
	for _, spec := range specs {
		snap := spec.Keep
		if snap == nil {
			snap = l.make(name, spec)
			event.New = append(event.New, snap)
		}
		kept[snap] = true
		image.Snapshots = append(image.Snapshots, snap)
		image.Latest = snap
	}
	if s.image != nil {
		for _, old := range s.image.Snapshots {
			if !kept[old] {
				event.Gone = append(event.Gone, old)
				delete(l.contents, old.Generation)
			}
		}
	}
	first := s.image == nil
	s.image = image
	if first {
		close(s.ready)
	}
	l.mu.Unlock()
	l.Emit(event)
	return image
}

// make builds a snapshot; l.mu is held.
func (l *Library) make(image string, spec Spec) *chain.Snapshot {
	l.generation++
	l.contents[l.generation] = spec.Content
	snap := &chain.Snapshot{
		Image: image, Name: spec.Name, Of: spec.Of, Generation: l.generation, Size: spec.Content.Size,
		Allocated: spec.Content.Allocated(), ModTime: spec.ModTime, Meta: spec.Meta, Partitions: spec.Partitions,
	}
	if snap.ModTime.IsZero() {
		snap.ModTime = time.Unix(1_700_000_000+int64(l.generation), 0)
	}
	files := spec.Files
	if len(files) == 0 {
		files = []string{image + "/" + spec.Name}
	}
	at := snap
	for i := len(files) - 1; i >= 0; i-- {
		at.Step, at.Depth = chain.Link{File: files[i]}, i+1
		if i > 0 {
			at.Parent = &chain.Snapshot{Image: image, Name: fmt.Sprint("before ", i)}
			at = at.Parent
		}
	}
	return snap
}

// Vanish removes an image. Its event doesn't list the snapshots.
func (l *Library) Vanish(name string) {
	l.mu.Lock()
	s := l.images[name]
	delete(l.images, name)
	event := chain.Event{Image: name, Vanish: true, Latest: true}
	if s.image != nil {
		for _, old := range s.image.Snapshots {
			delete(l.contents, old.Generation)
		}
	}
	l.mu.Unlock()
	l.Emit(event)
}

// Listeners are subscriptions that were muted.
type Listeners map[int]func(chain.Event)

// Mute has nobody told of changes until Unmute.
func (l *Library) Mute() Listeners {
	l.mu.Lock()
	defer l.mu.Unlock()
	muted := l.listeners
	l.listeners = Listeners{}
	return muted
}

// Unmute undoes Mute.
func (l *Library) Unmute(muted Listeners) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.listeners, muted)
}

// Emit tells the listeners, as the real one does, from the caller's goroutine.
func (l *Library) Emit(event chain.Event) {
	l.mu.Lock()
	listeners := slices.Collect(maps.Values(l.listeners))
	l.mu.Unlock()
	for _, listener := range listeners {
		listener(event)
	}
}
