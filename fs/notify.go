package fs

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/treename"
)

// A notifier tells the kernel what changed. A notification may wait for lookups
// in the same folder, so each image with something to tell has a goroutine of
// its own, and a callback or a request never waits for one.
type notifier struct {
	t *tree

	mu     sync.Mutex
	queues map[string][]chain.Event // of images whose goroutine is at work
	closed bool
	wg     sync.WaitGroup
}

func newNotifier(t *tree) *notifier {
	return &notifier{t: t, queues: map[string][]chain.Event{}}
}

// add takes an event and returns at once.
func (n *notifier) add(event chain.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	queue, working := n.queues[event.Image]
	n.queues[event.Image] = append(queue, event)
	if !working {
		n.wg.Go(func() { n.work(event.Image) })
	}
}

// work tells the events of one image in their order, until there are none.
func (n *notifier) work(image string) {
	for {
		n.mu.Lock()
		queue := n.queues[image]
		if len(queue) == 0 || n.closed {
			delete(n.queues, image)
			n.mu.Unlock()
			return
		}
		n.queues[image] = queue[1:]
		n.mu.Unlock()
		n.tell(queue[0])
	}
}

// close waits for notifications that are under way. The kernel gives these up
// once the mount is gone.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}

// tell invalidates what the kernel may have of an event's entries. With an entry
// the kernel drops the folder's own attributes, so its time is asked for anew.
func (n *notifier) tell(event chain.Event) {
	n.reconcile(event.Image)
	for _, w := range n.t.wings() {
		n.tellWing(event, w)
	}
}

func (n *notifier) tellWing(event chain.Event, w wing) {
	folder := n.reach(event.Image, w)
	if folder == nil {
		return
	}
	stays := map[string]bool{}
	for _, snap := range event.New {
		stays[treename.ImageFile(snap.Name, snap.Of)] = true
		for _, p := range partsOf([]*chain.Snapshot{snap}) {
			stays[p.file()] = true
		}
	}
	for _, snap := range event.Gone {
		file := treename.ImageFile(snap.Name, snap.Of)
		n.entry(folder, file, stays[file])
		for _, p := range partsOf([]*chain.Snapshot{snap}) {
			n.entry(folder, p.file(), stays[p.file()])
		}
	}
	if event.Vanish {
		n.entriesOf(folder)
	}
	if event.Latest {
		n.entry(folder, treename.Latest, true)
	}
}

// reconcile has the folders built anew if they disagree with the library about
// an image that it told of: its coming or going may show before it is told.
func (n *notifier) reconcile(image string) {
	_, err := n.t.lib.Image(n.t.ended, image)
	f := n.t.folders.get(image)
	if known := f != nil && f.isImage; known == errors.Is(err, chain.ErrNotFound) {
		n.t.folders.invalidate()
	}
}

// entriesOf invalidates what is left of an image that is gone, in a folder that
// stays because there are images below it.
func (n *notifier) entriesOf(folder *fusefs.Inode) {
	for file, child := range folder.Children() {
		if child.Mode() != syscall.S_IFDIR {
			n.entry(folder, file, false)
		}
	}
}

// reach walks to an image's folder, along what the kernel has. It stops at the
// first folder that is gone, or that is another than the kernel's, and
// invalidates that. An entry that the kernel doesn't have is invalidated as
// well: a lookup may just be answering it.
func (n *notifier) reach(image string, w wing) *fusefs.Inode {
	at := n.t.root.GetChild(w.name())
	path := ""
	for component := range strings.SplitSeq(image, "/") {
		if at == nil {
			return nil
		}
		if path != "" {
			path += "/"
		}
		path += component
		file := treename.EncodeComponent(component)
		child := at.GetChild(file)
		now := n.t.folders.get(path)
		if now == nil || child != nil && child.StableAttr().Ino != now.ino(w) {
			n.entry(at, file, now != nil)
			return nil
		}
		at = child
	}
	return at
}

// entry invalidates one name in a folder. stays says that there is something
// else by that name now.
func (n *notifier) entry(folder *fusefs.Inode, file string, stays bool) {
	if child := folder.GetChild(file); child != nil && !stays {
		if errno := folder.NotifyDelete(file, child); errno == 0 {
			return
		}
		// In use as a folder, or known by another inode: it is looked up again.
	}
	n.note(folder.NotifyEntry(file))
}

// note logs a failure, but for what the kernel can't do anything about: ENOENT is an entry that
// it doesn't have, the others a mount that is ending.
func (n *notifier) note(errno syscall.Errno) {
	switch errno {
	case 0, syscall.ENOENT, syscall.ENODEV, syscall.EBADF, syscall.ENOTCONN, syscall.ENOTDIR:
	default:
		n.t.limit.log(slog.LevelWarn, "notify", "the kernel didn't take an invalidation", slog.String("errno", errno.Error()))
	}
}
