package repo

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// manyPaths is how many different paths are kept between two readings before
// looking at the whole tree is the smaller work.
const manyPaths = 10_000

// A notifier collects the paths that inotify reports, so that the kernel's
// queue stays short and many events of one path become one look. It is safe
// for concurrent use. It only ever says where to look: what it reports may be
// wrong, late or missing.
type notifier struct {
	base   string
	prefix string
	wake   chan struct{} // holds one value when there is something to take
	pump   sync.WaitGroup

	watcher *fsnotify.Watcher // nil when there is none to be had

	mu      sync.Mutex
	paths   map[string]struct{}
	lost    bool  // events were lost: look at everything
	limited error // why some folders are not watched, nil when all are
}

// startNotifier starts watching, nothing at first. Without inotify it still
// works, and says so by limit.
func startNotifier(base string) *notifier {
	n := &notifier{
		base: base, prefix: strings.TrimSuffix(base, "/") + "/",
		wake: make(chan struct{}, 1), paths: make(map[string]struct{}),
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		n.limited = err
		return n
	}
	n.watcher = w
	n.pump.Go(n.collect)
	return n
}

func (n *notifier) stop() {
	if n.watcher != nil {
		_ = n.watcher.Close() // there is nothing to be done about it
	}
	n.pump.Wait()
}

func (n *notifier) collect() {
	events, errs := n.watcher.Events, n.watcher.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if e.Name != "" {
				n.note(e.Name)
			}
		case _, ok := <-errs:
			if !ok {
				errs = nil
			} else { // overflow, or something that can't be told from it
				n.lose()
			}
		}
	}
}

func (n *notifier) note(name string) {
	rel := "."
	if name = filepath.Clean(name); name != n.base {
		below, ok := strings.CutPrefix(name, n.prefix)
		if !ok {
			return
		}
		rel = below
	}
	n.mu.Lock()
	n.paths[rel] = struct{}{}
	many := len(n.paths) > manyPaths
	n.mu.Unlock()
	if many {
		n.lose()
	}
	n.signal()
}

func (n *notifier) lose() {
	n.mu.Lock()
	n.lost = true
	clear(n.paths)
	n.mu.Unlock()
	n.signal()
}

func (n *notifier) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take returns what was reported since the last call.
func (n *notifier) take() (paths map[string]struct{}, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	paths, lost = n.paths, n.lost
	n.paths, n.lost = make(map[string]struct{}), false
	return paths, lost
}

// watch watches a folder. It may lead to a place outside the tree for a moment,
// through a symbolic link: that costs a few needless looks and opens nothing.
func (n *notifier) watch(rel string) {
	if n.watcher == nil {
		return
	}
	err := n.watcher.Add(n.abs(rel))
	switch {
	case err == nil:
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP),
		errors.Is(err, unix.EACCES), errors.Is(err, fsnotify.ErrClosed):
		// Reading the folder tells as much.
	default:
		n.mu.Lock()
		n.limited = err
		n.mu.Unlock()
	}
}

// unwatch ends watching a folder; false: it was not watched.
func (n *notifier) unwatch(rel string) bool {
	return n.watcher != nil && n.watcher.Remove(n.abs(rel)) == nil
}

// again makes limit tell only of what happens from now on.
func (n *notifier) again() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watcher != nil {
		n.limited = nil
	}
}

// limit returns why some folders are not watched, nil when all are.
func (n *notifier) limit() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.limited
}

func (n *notifier) abs(rel string) string {
	if rel == "." {
		return n.base
	}
	return n.prefix + rel
}
