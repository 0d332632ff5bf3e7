package fs

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"rbdbackupfs/chain"
)

// A tree is what all nodes of one mount share.
type tree struct {
	lib     Library
	opts    Options // with defaults
	root    *topNode
	folders *folderIndex
	notify  *notifier
	limit   *logLimit
	status  func() ([]byte, error)
	// io is the context of reads: it ends with the mount, not with an interrupt.
	io   context.Context
	stop context.CancelFunc
	// ended is a context that has ended, to ask without waiting.
	ended context.Context
	// changes counts the library's events.
	changes atomic.Uint64
	sums    sums
	imports *imports
	scratch *scratchFiles

	mu   sync.Mutex
	open map[openHandle]struct{}
}

func newTree(lib Library, opts Options) *tree {
	t := &tree{
		lib: lib, opts: opts, folders: newFolderIndex(lib),
		limit: newLogLimit(opts.Logger, opts.Clock.Now), status: opts.statusOf(lib),
		open: map[openHandle]struct{}{}, imports: newImports(opts.Clock.Now),
		scratch: newScratchFiles(),
	}
	t.io, t.stop = context.WithCancel(context.Background())
	ended, end := context.WithCancel(context.Background())
	end()
	t.ended = ended
	t.notify = newNotifier(t)
	t.root = newTopNode(t)
	return t
}

// changed is the library's callback: it blocks on nothing.
func (t *tree) changed(event chain.Event) {
	t.changes.Add(1)
	if event.Appear || event.Vanish {
		t.folders.invalidate()
	}
	t.notify.add(event)
}

// close ends what the mount began. Nothing may be served any more.
func (t *tree) close() {
	t.stop()
	t.notify.close()
	t.mu.Lock()
	open := t.open
	t.open = map[openHandle]struct{}{}
	t.mu.Unlock()
	for handle := range open {
		handle.end()
	}
	t.limit.flush()
}

// listed waits until the library knows its images.
func (t *tree) listed(ctx context.Context) error {
	select {
	case <-t.lib.Listed():
		return nil
	default:
	}
	ctx, cancel := t.opts.Clock.WithTimeout(ctx, t.opts.LookupWait)
	defer cancel()
	select {
	case <-t.lib.Listed():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// image waits until an image is known.
func (t *tree) image(ctx context.Context, name string) (*chain.Image, error) {
	if image, err := t.lib.Image(t.ended, name); err == nil {
		return image, nil
	}
	wait, cancel := t.opts.Clock.WithTimeout(ctx, t.opts.LookupWait)
	defer cancel()
	image, err := t.lib.Image(wait, name)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // interrupted, which is more than pending
	}
	return image, err
}

// known returns an image if that takes no waiting, else nil.
func (t *tree) known(name string) *chain.Image {
	image, err := t.lib.Image(t.ended, name)
	if err != nil {
		return nil
	}
	return image
}

// An openHandle holds something that must be given back once.
type openHandle interface{ end() }

// register keeps track of an open handle; the kernel doesn't release those that
// are open when the mount is taken away by force.
func (t *tree) register(h openHandle) {
	t.mu.Lock()
	t.open[h] = struct{}{}
	t.mu.Unlock()
}

// release reports whether h was open.
func (t *tree) release(h openHandle) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, open := t.open[h]
	delete(t.open, h)
	return open
}

// sums is what all served snapshots hold together, for statfs.
type sums struct {
	mu        sync.Mutex
	at        uint64 // value of tree.changes
	valid     bool
	allocated uint64
	snapshots uint64
}

// totals adds up what is known, without waiting.
func (t *tree) totals() (allocated, snapshots uint64) {
	t.sums.mu.Lock()
	defer t.sums.mu.Unlock()
	now := t.changes.Load()
	if t.sums.valid && t.sums.at == now {
		return t.sums.allocated, t.sums.snapshots
	}
	for _, name := range t.lib.Names() {
		image := t.known(name)
		if image == nil {
			continue
		}
		for _, snap := range image.Snapshots {
			allocated += uint64(max(snap.Allocated, 0))
		}
		snapshots += uint64(len(image.Snapshots))
	}
	t.sums.at, t.sums.valid, t.sums.allocated, t.sums.snapshots = now, true, allocated, snapshots
	return allocated, snapshots
}

// closed logs a View that could not be closed.
func (t *tree) closed(snap *chain.Snapshot, err error) {
	if err != nil {
		t.opts.Logger.Warn("closing a snapshot", slog.String("image", snap.Image),
			slog.String("snapshot", snap.Label()), slog.Any("error", err))
	}
}
