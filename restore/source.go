package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"rbdbackupfs/chain"
)

// A Source is the bytes of an image at one snapshot: a chain.View, or a file of a
// mounted repository.
type Source interface {
	// ReadAt fills p from off, all of it or with an error.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// NextData returns the first offset at or past off that holds data,
	// chain.ErrNoData if there is none.
	NextData(ctx context.Context, off int64) (int64, error)
	// NextHole returns the first offset at or past off that holds none; the size
	// counts as one.
	NextHole(ctx context.Context, off int64) (int64, error)
}

// readFull fills p from off.
func readFull(ctx context.Context, src Source, p []byte, off int64) error {
	_, err := src.ReadAt(ctx, p, off)
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("reading %d bytes of the backup at %d: %w", len(p), off, err)
}

// smallRun is how short a run of data, or a hole, is not worth a read of its own,
// bytes.
const smallRun = 64 << 10

// walk calls visit with the ranges of [off, off+n) in turn, data and holes, until
// it returns an error. Where data and holes change quickly it takes all up to the
// end of a piece for data.
func walk(ctx context.Context, src Source, off, n int64, visit func(off, n int64, data bool) error) error {
	for end := off + n; off < end; {
		data, err := nextData(ctx, src, off, end)
		if err != nil {
			return err
		}
		if data > off {
			if err := visit(off, data-off, false); err != nil {
				return err
			}
			off = data
			continue
		}
		hole, err := runEnd(ctx, src, off, end)
		if err != nil {
			return err
		}
		if err := visit(off, hole-off, true); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

// nextData is where the next data begins, at most end.
func nextData(ctx context.Context, src Source, off, end int64) (int64, error) {
	data, err := src.NextData(ctx, off)
	if errors.Is(err, chain.ErrNoData) {
		return end, nil
	}
	return min(data, end), err
}

// runEnd is up to where to read from off, where data begins.
func runEnd(ctx context.Context, src Source, off, end int64) (int64, error) {
	hole, err := src.NextHole(ctx, off)
	if err != nil || hole >= end || hole-off >= smallRun {
		return min(hole, end), err
	}
	next, err := nextData(ctx, src, hole, end)
	if err != nil || next-hole >= smallRun {
		return hole, err
	}
	return min(end, off-off%bufferSize+bufferSize), nil
}

// copyRange has [from, from+n) of src written at off, read in parallel, and counts
// what was taken. It stops early, without an error, when ctx ends.
func (s *sink) copyRange(ctx context.Context, src Source, from, off, n int64, taken *atomic.Int64) error {
	err := walk(ctx, src, from, n, func(at, length int64, data bool) error {
		if !data {
			if err := s.zero(off+at-from, length); err != nil {
				return err
			}
			taken.Add(length)
			return ctx.Err()
		}
		for length > 0 {
			piece := s.piece(off+at-from, length)
			if err := s.copyPiece(ctx, src, at, off+at-from, piece); err != nil {
				return err
			}
			at, length = at+piece, length-piece
			taken.Add(piece)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() != nil && s.ctx.Err() == nil {
		err = nil
	}
	return err
}

func (s *sink) copyPiece(ctx context.Context, src Source, from, off, n int64) error {
	// Whatever ends first, the call or the restore, ends the wait for a buffer.
	b, err := s.buffer(ctx)
	if err != nil {
		return err
	}
	return s.write(off, b, n, func(ctx context.Context, p []byte) error {
		return readFull(ctx, src, p, from)
	})
}

// buffer waits for one until ctx or the restore ends.
func (s *sink) buffer(ctx context.Context) (*buffer, error) {
	if ctx == s.ctx {
		return s.lend.get(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	defer stop()
	return s.lend.get(ctx)
}
