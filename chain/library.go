package chain

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/packed"
	"rbdbackupfs/repo"
)

// Options of Open. The library uses Repo and Index and doesn't close them.
type Options struct {
	Repo  *repo.Repo
	Index *index.Index
	// Links says of backup files at which snapshot they end, as [IMAGE@]SNAPSHOT. A
	// key is a path below the repository, an absolute path, or a base name that only one file has.
	Links map[string]string
	// TrustNames has files linked by names that nothing vouches for.
	TrustNames bool
	// Logger gets what no call returns; nil drops it.
	Logger *slog.Logger
	// Cache gives what is in compressed files. Default: one that keeps nothing on disk.
	Cache *packed.Cache
	// Layout says which image a file belongs to. Default: its folder.
	Layout *layout.Rules
	// Given are files that the user named one by one, by path, and as they were
	// typed, which messages use. A raw one may have any name.
	Given map[string]string
	// Workers is how many images are read at the same time; 0: one per CPU.
	Workers int
}

// A Library is an open repository: its images, and the bytes of their
// snapshots. It is safe for concurrent use.
type Library struct {
	repo    *repo.Repo
	ix      *index.Index
	cache   *packed.Cache
	layout  *layout.Rules
	given   map[string]string
	log     *slog.Logger
	links   map[string]string
	trust   bool
	workers int

	listed chan struct{}
	idle   chan struct{}
	wake   *sync.Cond // on mu: there is something to do, or the end has come

	mu       sync.Mutex
	files    map[string]*fileState
	bases    map[string]int // how many files have a base name
	folders  map[string]*folderState
	groups   map[string]*groupState
	images   map[string]*imageState
	moved    map[*groupState]bool // places in them have to be looked at again
	touched  map[*imageState]bool // to be queued
	places   map[string]repo.File // folders and hidden paths worth a word
	notes    map[string]*fileInfo // of files not seen yet in this session
	verdicts map[string]verdict
	subs     map[int]func(Event)
	nextSub  int
	queue    []work
	busy     int
	reading  int             // folders that are queued, or being read
	held     bool            // no image is built before all folders are read
	fresh    map[string]bool // files that were unsettled when first listed
	isListed bool
	isIdle   bool // nothing was left to do once
	settle   bool // a worker is to settle the index
	ended    bool
	now      string

	sourcesMu sync.RWMutex
	sources   map[uint32]*source

	building sync.RWMutex // held shared while nodes are built

	reads, readBytes, readErrors atomic.Uint64
}

const filePrefix = "file/"

// Open reads what the index knows of the repository. Run does the rest.
func Open(o Options) (*Library, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Cache == nil {
		var err error
		if o.Cache, err = packed.NewCache("", 0); err != nil {
			return nil, err
		}
	}
	if o.Layout == nil {
		var err error
		if o.Layout, err = layout.New(layout.Config{Layout: layout.Plain, Root: filepath.Base(o.Repo.Root())}); err != nil {
			return nil, err
		}
	}
	l := &Library{
		repo: o.Repo, ix: o.Index, cache: o.Cache, layout: o.Layout, given: o.Given, log: o.Logger,
		links: o.Links, trust: o.TrustNames, workers: o.Workers,
		files: map[string]*fileState{}, bases: map[string]int{}, folders: map[string]*folderState{}, groups: map[string]*groupState{},
		moved: map[*groupState]bool{}, touched: map[*imageState]bool{}, held: o.Layout.Guesses(),
		listed: make(chan struct{}), idle: make(chan struct{}),
		images: map[string]*imageState{}, places: map[string]repo.File{}, notes: map[string]*fileInfo{},
		verdicts: map[string]verdict{}, subs: map[int]func(Event){}, fresh: map[string]bool{},
		sources: map[uint32]*source{},
	}
	l.wake = sync.NewCond(&l.mu)
	err := l.ix.Notes(filePrefix, func(key string, value []byte) error {
		name := strings.TrimPrefix(key, filePrefix)
		if info, ok := readNote(name, value); ok {
			l.notes[name] = info
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, l.ix.Notes(samePrefix, func(key string, value []byte) error {
		if len(value) == 1 {
			l.verdicts[strings.TrimPrefix(key, samePrefix)] = verdict(value[0])
		}
		return nil
	})
}

// Run lists the repository, indexes what is new and follows its changes until
// ctx ends, and returns then. Call it once.
func (l *Library) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range l.workers {
		workers.Go(func() { l.work(ctx) })
	}
	grace := time.AfterFunc(365*24*time.Hour, l.endGrace)
	err := l.repo.Watch(ctx, l.knows, func(changes []repo.Change) {
		l.apply(changes)
		if l.firstList() {
			grace.Reset(settleGrace)
		}
	})
	grace.Stop()
	l.mu.Lock()
	l.ended = true
	l.wake.Broadcast()
	l.mu.Unlock()
	workers.Wait()
	return err
}

// Close ends the notifications. Run must have returned.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.subs)
	return nil
}

// knows tells the repository that a file was whole with this pin.
func (l *Library) knows(name string, pin repo.Pin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info := l.notes[name]; info != nil {
		return info.Pin == pin
	}
	if f := l.files[name]; f != nil && f.info != nil {
		return f.info.Pin == pin || f.pin == pin && f.damage != nil
	}
	return false
}

// imagesKnown tells, with mu held, whether it is known which images there are.
func (l *Library) imagesKnown() bool { return l.isListed && (l.layout.ByPath() || !l.held) }

// Listed is closed once it is known which images there are.
func (l *Library) Listed() <-chan struct{} { return l.listed }

// Idle is closed once everything found at the start is indexed.
func (l *Library) Idle() <-chan struct{} { return l.idle }

// Names returns the names of the images, sorted; none before Listed. Folders
// in which nothing looks like a backup aren't images.
func (l *Library) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.imagesKnown() {
		return nil
	}
	names := slices.Sorted(maps.Keys(l.images))
	return slices.DeleteFunc(names, func(n string) bool { return !l.images[n].visible() })
}

// Image returns the state of an image, and waits for it until its chain is
// known or ctx ends. Errors: ErrNotFound, ErrPending when ctx ended first.
func (l *Library) Image(ctx context.Context, name string) (*Image, error) {
	l.mu.Lock()
	img, known := l.images[name], l.imagesKnown()
	l.mu.Unlock()
	if img == nil && !known {
		select {
		case <-l.listed:
			return l.Image(ctx, name)
		case <-ctx.Done():
			return nil, ErrPending
		}
	}
	if img == nil {
		return nil, ErrNotFound
	}
	if now := img.current.Load(); now == nil {
		select {
		case <-img.known:
		case <-ctx.Done():
			return nil, ErrPending
		}
	}
	if now := img.current.Load(); now != nil && now.visible() {
		return now, nil
	}
	return nil, ErrNotFound
}

// Subscribe has every later change told, after it is visible. The callback
// must return at once; it comes from several goroutines.
func (l *Library) Subscribe(notify func(Event)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.nextSub
	l.nextSub++
	l.subs[id] = notify
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, id)
	}
}

func (l *Library) tell(e Event) {
	l.mu.Lock()
	subs := slices.Collect(maps.Values(l.subs))
	l.mu.Unlock()
	for _, notify := range subs {
		notify(e)
	}
}
