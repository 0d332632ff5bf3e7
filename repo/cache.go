package repo

import (
	"container/list"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// A cache keeps descriptors open between reads: those that are in use, and the
// most recently used of the others as long as all together are within the
// limit. No lock is held while a file is opened, read or closed.
type cache struct {
	limit int
	open  func(key) (fd int, linked bool, err error)

	mu     sync.Mutex
	files  map[key]*descriptor
	idle   *list.List // of *descriptor, most recently used in front
	opened int        // descriptors that are open or being opened
	closed bool
}

// A key is what a descriptor is for: path and pin, so that the file that
// replaced another one never gets its descriptor.
type key struct {
	path string
	pin  Pin
}

// A descriptor is an open file with a count of its users.
type descriptor struct {
	key    key
	ready  chan struct{} // closed once fd, linked and err are set
	fd     int
	linked bool // whether the file had a name, as far as its file system counts them
	err    error

	users int           // guarded by cache.mu
	place *list.Element // in cache.idle, nil while in use; guarded by cache.mu
	stale bool          // not in cache.files any more; guarded by cache.mu
}

func newCache(limit int, open func(key) (int, bool, error)) *cache {
	return &cache{limit: limit, open: open, files: make(map[key]*descriptor), idle: list.New()}
}

// get returns the descriptor for k with one more user, opening it if need be.
func (c *cache) get(k key) (*descriptor, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, unix.EBADF
	}
	d, found := c.files[k]
	if found {
		d.users++
		if d.place != nil {
			c.idle.Remove(d.place)
			d.place = nil
		}
		c.mu.Unlock()
		<-d.ready
		return d, c.giveBackOn(d.err, d)
	}
	d = &descriptor{key: k, ready: make(chan struct{}), users: 1, fd: -1}
	c.files[k] = d
	c.opened++
	excess := c.takeIdle(c.opened - c.limit)
	c.mu.Unlock()

	closeAll(excess)
	d.fd, d.linked, d.err = c.openMakingRoom(k)
	close(d.ready)
	return d, c.giveBackOn(d.err, d)
}

// openMakingRoom opens k; at the limit of the process or the system it closes
// idle descriptors and tries again.
func (c *cache) openMakingRoom(k key) (int, bool, error) {
	fd, linked, err := c.open(k)
	for errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		if !c.makeRoom() {
			return fd, linked, err
		}
		fd, linked, err = c.open(k)
	}
	return fd, linked, err
}

// makeRoom closes half of the idle descriptors, at least one; false: there is none.
func (c *cache) makeRoom() bool {
	c.mu.Lock()
	victims := c.takeIdle((c.idle.Len() + 1) / 2)
	c.mu.Unlock()
	closeAll(victims)
	return len(victims) > 0
}

func (c *cache) giveBackOn(err error, d *descriptor) error {
	if err != nil {
		c.drop(d)
		c.put(d)
	}
	return err
}

// put ends one use of d.
func (c *cache) put(d *descriptor) {
	c.mu.Lock()
	d.users--
	var victims []*descriptor
	switch {
	case d.users > 0:
	case d.stale:
		c.opened--
		victims = []*descriptor{d}
	default:
		d.place = c.idle.PushFront(d)
		victims = c.takeIdle(c.opened - c.limit)
	}
	c.mu.Unlock()
	closeAll(victims)
}

// drop makes the next get of d's key open the file anew.
func (c *cache) drop(d *descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlist(d)
}

// forget drops the descriptor for k: those of deleted files keep their space
// on the disk from being freed.
func (c *cache) forget(k key) {
	c.mu.Lock()
	var victims []*descriptor
	if d := c.files[k]; d != nil {
		if d.place != nil {
			victims = append(victims, c.takeOne(d))
		} else {
			c.unlist(d)
		}
	}
	c.mu.Unlock()
	closeAll(victims)
}

// flush drops all descriptors.
func (c *cache) flush() {
	c.mu.Lock()
	victims := c.takeIdle(c.idle.Len())
	for _, d := range c.files {
		c.unlist(d)
	}
	c.mu.Unlock()
	closeAll(victims)
}

func (c *cache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.flush()
}

// unlist takes d out of files. The caller holds mu.
func (c *cache) unlist(d *descriptor) {
	if !d.stale {
		d.stale = true
		delete(c.files, d.key)
	}
}

// takeIdle takes up to n of the longest unused descriptors out of the cache,
// for the caller to close without the lock. The caller holds mu.
func (c *cache) takeIdle(n int) []*descriptor {
	var taken []*descriptor
	for ; n > 0; n-- {
		oldest := c.idle.Back()
		if oldest == nil {
			break
		}
		if d, ok := oldest.Value.(*descriptor); ok {
			taken = append(taken, c.takeOne(d))
		}
	}
	return taken
}

func (c *cache) takeOne(d *descriptor) *descriptor {
	c.idle.Remove(d.place)
	d.place = nil
	c.unlist(d)
	c.opened--
	return d
}

func closeAll(ds []*descriptor) {
	for _, d := range ds {
		if d.fd >= 0 {
			_ = unix.Close(d.fd) // opened for reading: nothing can be lost
		}
	}
}
