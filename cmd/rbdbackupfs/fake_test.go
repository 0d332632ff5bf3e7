package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/target"
)

// A fakeLibrary is in the states that a real one passes too quickly. It is the
// whole backend as well: one repository, one mount.
type fakeLibrary struct {
	root   string
	listed chan struct{}
	idle   chan struct{}
	run    chan error // what Run returns
	done   chan struct{}
	stuck  chan struct{} // if set, Close waits for it

	mu     sync.Mutex
	status chain.Status
	images map[string]*chain.Image // nil: pending
	notify func(chain.Event)
	busy   []error // of the next calls of Unmount
	detach int
	tree   treeOptions // of Mount

	target    target.Target
	targetErr error
}

func newFake(root string) *fakeLibrary {
	return &fakeLibrary{
		root: root, listed: make(chan struct{}), idle: make(chan struct{}), run: make(chan error, 1), done: make(chan struct{}),
		images: make(map[string]*chain.Image), status: chain.Status{Repo: root, Layout: chain.LayoutStatus{Layout: layout.Auto}}, notify: func(chain.Event) {},
	}
}

func (f *fakeLibrary) OpenRepo(string, repoOptions) (repository, error) { return fakeRepo{f}, nil }
func (f *fakeLibrary) CheckOverlap(...place) error                      { return nil }
func (f *fakeLibrary) CheckTree(treeOptions) error                      { return nil }
func (f *fakeLibrary) Umount(string) error                              { return f.Unmount() }
func (f *fakeLibrary) CephVersion() string                              { return "librbd 1.16.0" }

func (f *fakeLibrary) OpenTarget(_ context.Context, where targetURL, _ *slog.Logger) (target.Target, error) {
	return f.target, f.targetErr
}

func (f *fakeLibrary) OpenView(*chain.Snapshot) (*chain.View, error) { return nil, chain.ErrNotFound }

func (f *fakeLibrary) Detach(string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.detach++
	close(f.done)
	return nil
}

type fakeRepo struct{ *fakeLibrary }

func (r fakeRepo) Root() string { return r.root }
func (r fakeRepo) ID() string   { return "fake" }
func (r fakeRepo) Close() error { return nil }
func (r fakeRepo) Open(libraryOptions, *slog.Logger) (library, error) {
	return r.fakeLibrary, nil
}

func (f *fakeLibrary) Run(ctx context.Context) error {
	select {
	case err := <-f.run:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (f *fakeLibrary) Listed() <-chan struct{} { return f.listed }
func (f *fakeLibrary) Idle() <-chan struct{}   { return f.idle }
func (f *fakeLibrary) Done() <-chan struct{}   { return f.done }
func (f *fakeLibrary) Unused() <-chan struct{} { return nil }

func (f *fakeLibrary) Close() error {
	if f.stuck != nil {
		<-f.stuck
	}
	return nil
}

func (f *fakeLibrary) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.images {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f *fakeLibrary) Image(ctx context.Context, name string) (*chain.Image, error) {
	f.mu.Lock()
	img, found := f.images[name]
	f.mu.Unlock()
	if !found {
		return nil, chain.ErrNotFound
	}
	if img != nil {
		return img, nil
	}
	<-ctx.Done()
	return nil, chain.ErrPending
}

func (f *fakeLibrary) Status() chain.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fakeLibrary) Subscribe(notify func(chain.Event)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notify = notify
	return func() {}
}

// set changes the status and tells of it.
func (f *fakeLibrary) set(change func(*chain.Status)) {
	f.mu.Lock()
	change(&f.status)
	notify := f.notify
	f.mu.Unlock()
	notify(chain.Event{})
}

func (f *fakeLibrary) Mount(_ string, o treeOptions) (tree, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree = o
	return f, nil
}

func (f *fakeLibrary) Unmount() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.busy) > 0 {
		err := f.busy[0]
		f.busy = f.busy[1:]
		return err
	}
	select {
	case <-f.done:
	default:
		close(f.done)
	}
	return nil
}

// A lockedBuffer is written to by several goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// An outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// start runs a command line on f; the channel has its outcome.
func (f *fakeLibrary) start(ctx context.Context, usable time.Duration, args ...string) <-chan outcome {
	var stdout, stderr lockedBuffer
	a := &app{args: args, stdout: &stdout, stderr: &stderr, backend: f, now: time.Now, usable: usable}
	ended := make(chan outcome, 1)
	go func() {
		code := a.run(ctx)
		ended <- outcome{code, stdout.String(), stderr.String()}
	}()
	return ended
}

// runReal runs a command line in this process.
func runReal(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr lockedBuffer
	code := run(t.Context(), args, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

var errFake = errors.New("the folder is gone")
