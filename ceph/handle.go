//go:build cgo && !noceph

package ceph

import (
	"context"
	"sync"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// A handle is an open image. librbd's own handle must not be closed under a call
// that uses it, and a call that was left behind may return much later: the last
// one after Close does what Close had to.
type handle struct {
	conn *Conn
	io   *rados.IOContext
	rbd  *rbd.Image

	mu      sync.Mutex
	closed  bool
	running int
	idle    chan struct{} // closed when running drops to 0; nil when nobody waits
}

// pool opens a pool or namespace. What is written there fails when it is full:
// by default librados waits until somebody makes room.
func (c *Conn) pool(name target.Name) (*rados.IOContext, error) {
	io, err := c.rados.OpenIOContext(name.Pool)
	if err != nil {
		return nil, err
	}
	if err := io.SetPoolFullTry(); err != nil {
		io.Destroy()
		return nil, err
	}
	if name.Namespace == "" {
		return io, nil
	}
	exists, err := rbd.NamespaceExists(io, name.Namespace)
	if err == nil && !exists {
		err = rbd.ErrNotExist
	}
	if err != nil {
		io.Destroy()
		return nil, err
	}
	io.SetNamespace(name.Namespace)
	return io, nil
}

// inPool runs a call with a pool's context.
func inPool[T any](ctx context.Context, c *Conn, name target.Name, call func(*rados.IOContext) (T, error)) (T, error) {
	return ask(ctx, c, func() (T, error) {
		io, err := c.pool(name)
		if err != nil {
			var none T
			return none, err
		}
		defer io.Destroy()
		return call(io)
	}, nil)
}

// mode is how an image is opened.
type mode int

const (
	// toLook leaves no trace in the cluster: nobody sees the image in use.
	toLook mode = iota
	// toWrite registers a watcher, which others see.
	toWrite
)

// open opens an image, or one of its snapshots to look at.
func (c *Conn) open(ctx context.Context, name target.Name, snapshot string, how mode) (*handle, error) {
	return ask(ctx, c, func() (*handle, error) {
		io, err := c.pool(name)
		if err != nil {
			return nil, err
		}
		opener := rbd.OpenImageReadOnly
		if how == toWrite {
			opener = rbd.OpenImage
		}
		img, err := opener(io, name.Image, snapshot)
		if err != nil {
			io.Destroy()
			return nil, err
		}
		if !c.begin() {
			_ = img.Close()
			io.Destroy()
			return nil, ErrClosed
		}
		return &handle{conn: c, io: io, rbd: img}, nil
	}, func(h *handle) { _ = h.close() })
}

// enter registers a call; false once the handle is closed.
func (h *handle) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.running++
	return true
}

// leave takes a call out again.
func (h *handle) leave() {
	h.mu.Lock()
	h.running--
	last := h.running == 0
	if last && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
	last = last && h.closed
	h.mu.Unlock()
	if last {
		_ = h.release()
	}
}

// call runs one call, and leaves it behind when ctx ends first.
func (h *handle) call(ctx context.Context, f func(*rbd.Image) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !h.enter() {
		return ErrClosed
	}
	_, err := await(ctx, func() (struct{}, error) {
		defer h.leave()
		return struct{}{}, f(h.rbd)
	}, nil)
	return err
}

// now runs a call of the data path in the caller's own thread: librados' timeout
// bounds it.
func (h *handle) now(ctx context.Context, f func(*rbd.Image) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !h.enter() {
		return ErrClosed
	}
	defer h.leave()
	return f(h.rbd)
}

// settle waits for calls that were left behind: what undoes a change must not run
// beside it.
func (h *handle) settle(ctx context.Context) error {
	h.mu.Lock()
	if h.running == 0 {
		h.mu.Unlock()
		return nil
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
	}
	idle := h.idle
	h.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close lets go of the image, at once or with the last call that still runs. A
// second close does nothing.
func (h *handle) close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	now := h.running == 0
	h.mu.Unlock()
	if !now {
		return nil
	}
	return h.release()
}

func (h *handle) release() error {
	defer h.conn.end()
	err := h.rbd.Close()
	h.io.Destroy()
	return err
}
