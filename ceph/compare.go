//go:build cgo && !noceph

package ceph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

const (
	// block is the grain in which changes are remembered. Around what is reported
	// as changed bytes are compared in vain, which costs time and nothing else.
	block = 64 << 10
	// window is how much of an image is looked at in one go: a bit for each block
	// makes 32 KiB, whatever was written there.
	window = 16 << 30
	// compareAtOnce readers of up to compareRun bytes, twice, are under way.
	compareAtOnce = 8
	compareRun    = 4 << 20
)

// errDiffers ends a comparison at the first difference.
var errDiffers = errors.New("differs")

// Empty tells whether nothing was ever put into the image. Zeros are nothing.
func (im *image) Empty(ctx context.Context) (bool, error) {
	const op = "look for data"
	list, err := im.h.snapshots(ctx)
	if err != nil || len(list) > 0 {
		return false, dataFailure(op, im.String(), err)
	}
	same, err := im.h.same(ctx, im.Size(), rbd.NoSnapshot, nil)
	return same, dataFailure(op, im.String(), err)
}

// Unchanged tells whether the image still is what it was at a snapshot. What was
// rewritten with the same bytes, as a rollback does, is no change.
func (im *image) Unchanged(ctx context.Context, snapshot string) (bool, error) {
	const op = "compare with the start snapshot"
	same, err := im.h.unchanged(ctx, im.name, snapshot)
	return same, dataFailure(op, im.String(), err)
}

// unchanged compares HEAD, which the handle shows, with a snapshot.
func (h *handle) unchanged(ctx context.Context, name target.Name, snapshot string) (bool, error) {
	info, ok, err := h.snapshot(ctx, snapshot)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, &target.Error{
			Op: "compare", Name: name.String(), Errno: syscall.EINVAL, Err: fmt.Errorf("there is no snapshot %q", snapshot),
		}
	}
	size, err := h.size(ctx)
	if err != nil || size != int64(info.Size) {
		return false, err
	}
	then, err := h.conn.open(ctx, name, snapshot, toLook)
	if err != nil {
		return false, err
	}
	defer func() { _ = then.close() }()
	return h.same(ctx, size, snapshot, then)
}

// size asks for the size that the handle shows.
func (h *handle) size(ctx context.Context) (int64, error) {
	var size atomic.Int64
	err := h.call(ctx, func(img *rbd.Image) error {
		n, err := img.GetSize()
		size.Store(int64(n))
		return err
	})
	return size.Load(), err
}

// same compares what changed since a snapshot with the bytes that then shows; with
// zeros if that is nil.
func (h *handle) same(ctx context.Context, size int64, snapshot string, then *handle) (bool, error) {
	for off := int64(0); off < size; off += window {
		changed, err := h.changed(ctx, snapshot, off, min(window, size-off))
		if err != nil {
			return false, err
		}
		if same, err := h.equal(ctx, then, changed.runs(off, size)); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// A changes has a bit for each block of a window.
type changes [window / block / 64]uint64

// add marks the blocks that [off, off+n) touches, counted from the window's start.
func (c *changes) add(off, n uint64) {
	if n == 0 {
		return
	}
	for b, last := off/block, (off+n-1)/block; b <= last && b < window/block; b++ {
		c[b/64] |= 1 << (b % 64)
	}
}

// runs gives the marked blocks, neighbours together, up to compareRun bytes.
func (c *changes) runs(start, size int64) func(yield func(off, n int64) bool) {
	marked := func(b int64) bool { return b < window/block && c[b/64]&(1<<(b%64)) != 0 }
	return func(yield func(off, n int64) bool) {
		for b := int64(0); b < window/block; b++ {
			if c[b/64] == 0 {
				b |= 63
				continue
			}
			first := b
			for marked(b) && (b-first)*block < compareRun {
				b++
			}
			if b == first {
				continue
			}
			off := start + first*block
			if !yield(off, min((b-first)*block, size-off)) {
				return
			}
			b--
		}
	}
}

// changed asks for what changed since a snapshot.
func (h *handle) changed(ctx context.Context, snapshot string, off, n int64) (*changes, error) {
	marks := new(changes)
	err := h.call(ctx, func(img *rbd.Image) error {
		return img.DiffIterate(rbd.DiffIterateConfig{
			SnapName: snapshot, Offset: uint64(off), Length: uint64(n),
			IncludeParent: rbd.IncludeParent, WholeObject: rbd.DisableWholeObject,
			Callback: func(at, length uint64, _ int, _ any) int {
				marks.add(at-uint64(off), length)
				if ctx.Err() != nil {
					return -int(syscall.EINTR)
				}
				return 0
			},
		})
	})
	if err != nil {
		return nil, err
	}
	return marks, nil
}

// equal compares runs of HEAD with what then shows, or with zeros.
func (h *handle) equal(ctx context.Context, then *handle, runs func(yield func(off, n int64) bool)) (bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var found atomic.Pointer[error]
	fail := func(err error) {
		if err != nil && found.CompareAndSwap(nil, &err) {
			cancel(err)
		}
	}
	type run struct{ off, n int64 }
	work := make(chan run)
	var readers sync.WaitGroup
	for range compareAtOnce {
		readers.Go(func() {
			var head, other []byte
			for r := range work {
				if head == nil {
					head, other = make([]byte, compareRun), make([]byte, compareRun)
				}
				fail(compareOne(ctx, h, then, r.off, head[:r.n], other[:r.n]))
			}
		})
	}
	for off, n := range runs {
		for ; n > 0 && found.Load() == nil; off, n = off+compareRun, n-compareRun {
			work <- run{off, min(n, compareRun)}
		}
		if found.Load() != nil {
			break
		}
	}
	close(work)
	readers.Wait()
	switch err := found.Load(); {
	case err == nil:
		return true, nil
	case errors.Is(*err, errDiffers):
		return false, nil
	default:
		return false, *err
	}
}

func compareOne(ctx context.Context, h, then *handle, off int64, head, other []byte) error {
	if err := h.read(ctx, head, off); err != nil {
		return err
	}
	if then == nil {
		clear(other)
	} else if err := then.read(ctx, other, off); err != nil {
		return err
	}
	if !bytes.Equal(head, other) {
		return errDiffers
	}
	return nil
}

func (h *handle) read(ctx context.Context, p []byte, off int64) error {
	return h.now(ctx, func(img *rbd.Image) error {
		n, err := img.ReadAt(p, off)
		if n == len(p) {
			return nil
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}
