//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"

	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// image is one image that is being restored.
type image struct {
	t    *Target
	job  *target.Job // the caller's: its snapshots may become more
	name target.Name // what the cluster calls it now
	h    *handle

	size  atomic.Int64
	hints target.Hints
	// features are the bits of the header.
	features uint64

	created   bool // by this job, and not one that was there before
	writable  bool
	guarded   bool
	committed bool
}

var _ target.Image = (*image)(nil)

// opened opens an image and reads what doesn't change.
func (t *Target) opened(ctx context.Context, job *target.Job, name target.Name, how mode) (*image, error) {
	h, err := t.conn.open(ctx, name, rbd.NoSnapshot, how)
	if err != nil {
		return nil, err
	}
	im := &image{t: t, job: job, name: name, h: h, writable: how == toWrite}
	if err := im.look(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return im, nil
}

// look reads what the image is.
func (im *image) look(ctx context.Context) error {
	return im.h.call(ctx, func(img *rbd.Image) error {
		info, err := img.Stat()
		if err != nil {
			return err
		}
		count, err := img.GetStripeCount()
		if err != nil {
			return err
		}
		im.size.Store(int64(info.Size))
		im.hints = hints(int64(info.Obj_size), int64(count))
		im.features, err = img.GetFeatures()
		return err
	})
}

const (
	parallel = 16
	zeroRun  = 64 << 10
	// Writes of less than minChunk cost more in messages than in data; a write of
	// more than maxChunk must be held in memory parallel times.
	minChunk = 1 << 20
	maxChunk = 32 << 20
)

// hints are those for objects of a size, of which count are filled in turn.
func hints(object, count int64) target.Hints {
	chunk := object * max(count, 1)
	if chunk > maxChunk {
		chunk = object
	}
	for chunk < minChunk {
		chunk *= 2
	}
	return target.Hints{Chunk: chunk, Parallel: parallel, ZeroRun: zeroRun}
}

// String is the name that the image is to have: what messages are about.
func (im *image) String() string { return im.job.Image.String() }

// Size is the size now.
func (im *image) Size() int64 { return im.size.Load() }

// Hints: an object, or a round of stripes, at a time.
func (im *image) Hints() target.Hints { return im.hints }

// Resize cuts or extends.
func (im *image) Resize(ctx context.Context, size int64) error {
	const op = "resize"
	if size < 0 {
		return &target.Error{Op: op, Name: im.String(), Errno: syscall.EINVAL}
	}
	if size == im.Size() {
		return nil
	}
	var got uint64
	err := im.h.call(ctx, func(img *rbd.Image) error {
		goOn := func(uint64, uint64, any) int {
			if ctx.Err() != nil {
				return -int(syscall.EINTR)
			}
			return 0
		}
		if err := img.Resize2(uint64(size), true, goOn, nil); err != nil {
			return err
		}
		var err error
		got, err = img.GetSize()
		return err
	})
	if err != nil {
		return dataFailure(op, im.String(), err)
	}
	im.size.Store(int64(got))
	if int64(got) != size {
		return &target.Error{
			Op: op, Name: im.String(), Errno: syscall.EINVAL, Err: fmt.Errorf("the size is %d instead of %d bytes", got, size),
		}
	}
	return nil
}

// check refuses what is not within the image.
func (im *image) check(op string, off, n int64) error {
	if size := im.Size(); off < 0 || n < 0 || off > size || n > size-off {
		return &target.Error{
			Op: op, Name: im.String(), Errno: syscall.EINVAL,
			Err: fmt.Errorf("%d bytes at %d are not within the %d bytes of the image", n, off, size),
		}
	}
	return nil
}

// writePiece is how much one call writes. Of 4 MiB, in any number at once, little
// more than half as much came through as of 1 MiB from the same 16 goroutines.
const writePiece = 1 << 20

// WriteAt writes all of p. What it has written is in the cluster when it returns.
func (im *image) WriteAt(ctx context.Context, p []byte, off int64) error {
	const op = "write"
	if err := im.check(op, off, int64(len(p))); err != nil {
		return err
	}
	for len(p) > 0 {
		piece := p[:min(int64(len(p)), writePiece-off%writePiece)]
		err := im.h.now(ctx, func(img *rbd.Image) error {
			n, err := img.WriteAt(piece, off)
			if n != len(piece) && (err == nil || errors.Is(err, io.EOF)) {
				return errShort
			}
			return err
		})
		if err != nil {
			return dataFailure(op, im.String(), err)
		}
		p, off = p[len(piece):], off+int64(len(piece))
	}
	return nil
}

// zeroPiece is how much is zeroed by one call: librbd takes less than 2 GiB, and
// between two calls the context is looked at.
const zeroPiece = 512 << 20

// Zero is exact: librbd's discard would leave out parts of 64 KiB blocks.
func (im *image) Zero(ctx context.Context, off, n int64) error {
	const op = "zero"
	if err := im.check(op, off, n); err != nil {
		return err
	}
	for n > 0 {
		piece := min(n, zeroPiece-off%zeroPiece)
		err := im.h.now(ctx, func(img *rbd.Image) error {
			done, err := img.WriteSame(uint64(off), uint64(piece), []byte{0}, 0)
			if err == nil && done != piece {
				return errShort
			}
			return err
		})
		if err != nil {
			return dataFailure(op, im.String(), err)
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// Flush makes durable what was written.
func (im *image) Flush(ctx context.Context) error {
	return dataFailure("flush", im.String(), im.h.call(ctx, (*rbd.Image).Flush))
}

// Close ends the use of the image.
func (im *image) Close() error {
	return dataFailure("close", im.String(), im.h.close())
}
