package repo

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// eventDelay is how long events are collected before they are looked after.
	eventDelay = 100 * time.Millisecond
	// batchDelay and batchSize bound how long and how many changes are held
	// back while more are being found.
	batchDelay = 100 * time.Millisecond
	batchSize  = 4096
	// rootEvery is how often it is checked that the root is where it was.
	rootEvery = 5 * time.Second
	// rescanSlow and rescanFast are how long it is between the end of one look
	// at the whole tree and the next, where inotify tells of everything and
	// where it doesn't.
	rescanSlow = 5 * time.Minute
	rescanFast = 30 * time.Second
)

// Watch reports the tree and every change of it, until ctx ends; it returns
// ctx's error then, and nothing else.
//
// The first call of emit has the whole tree, every Change with Initial set; it
// may be empty. Later calls have at least one Change, sorted by path. Files are
// Unsettled at first, unless known says that this path with this pin is
// complete, and are reported again when they settle. A file that keeps changing
// is reported once when that begins and once when it ends; one whose contents
// change while Settled is reported as Changed and Unsettled.
//
// When a folder can't be read, or the whole root vanishes (path "."), that is
// reported as an Unreadable path, and no Gone for the files in it: they are
// looked for again when it is back, and its path is then reported Gone.
//
// known and emit are called from the goroutine that called Watch, never at the
// same time. While emit runs no other change is noticed, but none gets lost.
func (r *Repo) Watch(ctx context.Context, known func(path string, pin Pin) bool, emit func([]Change)) error {
	return r.newWatch(known, emit).run(ctx)
}

// A watch is one run of Watch. Its fields belong to one goroutine.
type watch struct {
	repo    *Repo
	log     *slog.Logger
	emit    func([]Change)
	tree    *tree
	settler settler
	scan    *scanner
	notify  *notifier

	told      bool // the first batch is out
	full      bool // a look at the whole tree is under way
	network   bool // some folder is on a network file system
	redo      bool // the look that is under way is not enough
	moved     bool // folders were found gone by the look at the whole tree
	warned    bool // of inotify's limits
	rootError string

	// When things are due, and whether they are.
	eventsAt, heldAt, rootAt, rescanAt timer
}

// A timer is a point in time, or none.
type timer struct {
	at instant
	on bool
}

func (t *timer) set(at instant)      { t.at, t.on = at, true }
func (t *timer) atLatest(at instant) { t.at, t.on = min(at, t.or(at)), true }
func (t *timer) or(other instant) instant {
	if t.on {
		return t.at
	}
	return other
}

// expired tells whether the time has come, and if so, turns the timer off.
func (t *timer) expired(now instant) bool {
	if !t.on || t.at > now {
		return false
	}
	t.on = false
	return true
}

// newWatch prepares a watch, and inotify's part of it; run must be called.
func (r *Repo) newWatch(known func(string, Pin) bool, emit func([]Change)) *watch {
	w := &watch{repo: r, log: r.log, emit: emit, tree: newTree(known), notify: startNotifier(r.path)}
	w.settler = settler{repo: r, tree: w.tree}
	return w
}

func (w *watch) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.notify.stop()
	w.scan = w.repo.startScanner(ctx, w.notify.watch)
	defer w.scan.stop()
	defer cancel()

	w.checkRoot()
	if w.tree.reading == 0 && w.repo.root.Load() != nil {
		w.rescan()
	}
	for {
		w.flush()
		w.settler.take()
		fired, stop := w.repo.clock.Timer(w.repo.start.Add(w.nextDue()))
		select {
		case <-ctx.Done():
			stop()
			return ctx.Err()
		case look := <-w.scan.looks:
			w.takeIn(&look)
		case <-w.notify.wake:
			w.eventsAt.atLatest(w.repo.now() + eventDelay)
		case <-fired:
		}
		stop()
		w.attend()
	}
}

// nextDue is when there is something to do, if nothing happens before.
func (w *watch) nextDue() instant {
	now := w.repo.now()
	until := w.rootAt.or(now + rootEvery)
	until = min(until, w.heldAt.or(until), w.rescanAt.or(until))
	if w.told {
		until = min(until, w.eventsAt.or(until))
		if at, ok := w.settler.next(now); ok {
			until = min(until, at)
		}
	}
	return until
}

// attend does what is due.
func (w *watch) attend() {
	now := w.repo.now()
	if w.rootAt.expired(now) {
		w.checkRoot()
	}
	if w.rescanAt.expired(now) {
		w.rescan()
	}
	if !w.told {
		return
	}
	if w.eventsAt.expired(now) {
		w.takeEvents()
	}
	if at, ok := w.settler.next(now); ok && at <= now {
		w.settler.step()
	}
}

// flush gives out what is to be told, unless more is about to be found.
func (w *watch) flush() {
	w.tidy()
	now, n := w.repo.now(), len(w.tree.changes)
	switch {
	case !w.told && w.tree.reading > 0:
		return
	case !w.told:
	case n == 0:
		return
	case w.tree.reading > 0 && n < batchSize && !w.heldAt.expired(now):
		w.heldAt.atLatest(now + batchDelay)
		return
	}
	w.heldAt.on = false
	batch := w.tree.takeChanges()
	for i := range batch {
		batch[i].Initial = !w.told
	}
	w.told = true
	w.emit(batch)
}

// tidy lets go of what belongs to paths that are no more.
func (w *watch) tidy() {
	for _, k := range w.tree.stale {
		w.repo.cache.forget(k)
	}
	w.tree.stale = w.tree.stale[:0]
	for _, path := range w.tree.left {
		w.notify.unwatch(path)
	}
	w.tree.left = w.tree.left[:0]
}

// rescan starts a look at the whole tree.
func (w *watch) rescan() {
	if w.full || w.repo.root.Load() == nil {
		w.redo = w.full
		return
	}
	w.full, w.redo, w.moved, w.network = true, false, false, false
	w.notify.again()
	w.read(w.tree.root)
}

// read has a folder read, and later all below it.
func (w *watch) read(f *folder) {
	w.tree.reading++
	w.scan.add(f.path)
}

// takeIn takes in what the scanner found in a folder.
func (w *watch) takeIn(look *folderLook) {
	w.tree.reading--
	if f := w.tree.find(look.path); f != nil {
		w.takeInto(f, look)
	}
	if w.tree.reading == 0 {
		w.rested()
	}
}

func (w *watch) takeInto(f *folder, look *folderLook) {
	w.network = w.network || look.kind == fsNetwork
	switch {
	case look.err != nil && f == w.tree.root:
		w.rootFailed(look.err)
	case errors.Is(look.err, unix.ENOENT): // the parent's look, or the event, will tell
		w.lookAgain(f.path)
	case look.err != nil:
		w.tree.trouble(f, w.repo.folderError(f.path, look.err))
	case look.began < f.began: // a later one came sooner
	default:
		w.tree.takeIn(f, look)
		if f == w.tree.root && w.rootError != "" {
			w.rootError = ""
			w.log.Info("the repository can be read again", slog.String("path", w.repo.path))
		}
		if len(look.files) > 0 {
			w.repo.populated.Store(true)
		}
		w.moved = w.moved || len(w.tree.left) > 0
		w.tidy() // before folders are watched under their new names
		for _, sub := range look.subs {
			if f := f.subs[sub.name]; f != nil {
				w.read(f)
			}
		}
	}
}

// rested is called when no folder is left to be read.
func (w *watch) rested() {
	now := w.repo.now()
	clear(w.tree.removed)
	if w.full {
		w.full = false
		w.rescanAt.set(now + w.rescanEvery())
		if w.moved || w.redo {
			// A folder that was found under its new name before it was missed
			// under the old one is not watched now.
			w.rescanAt.atLatest(now + eventDelay)
		}
	}
	err := w.notify.limit()
	if err != nil && !w.warned {
		w.warned = true
		w.log.Warn("inotify is at its limit: changes are found by looking at all files",
			slog.String("path", w.repo.path), slog.Duration("every", w.rescanEvery()), slog.Any("error", err),
			slog.String("hint", "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl"))
	}
	if err != nil {
		w.rescanAt.atLatest(now + w.rescanEvery())
	}
}

func (w *watch) rescanEvery() time.Duration {
	switch {
	case w.repo.every > 0:
		return w.repo.every
	case w.network || w.rootError != "" || w.notify.limit() != nil:
		return rescanFast
	default:
		return rescanSlow
	}
}
