package restore

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"rbdbackupfs/internal/target"
)

const (
	// zeroPiece is the longest range that is zeroed in one call, bytes, so that a
	// range of terabytes can be stopped.
	zeroPiece = 1 << 30
	// zeroUnit is what is looked at when zeros are searched for, bytes.
	zeroUnit = 4096
)

// A sink writes to an image, several ranges at once as long as they don't
// overlap: of two that do, the later one waits, so the last one wins. All its
// methods are for one goroutine; the writes are done by others.
type sink struct {
	img   target.Image
	hints target.Hints
	lend  *lender
	slots chan struct{} // one for each write under way

	// ctx ends with the first error, or with the restore.
	ctx  context.Context
	stop context.CancelCauseFunc

	// blank says that the image was new, or empty: from high on nothing was
	// ever written to it, and zeros need not be either.
	blank bool
	high  int64

	mu     sync.Mutex
	flying []span        // writes under way
	landed chan struct{} // gets something when one has ended

	tally *tally
}

// A span is the half-open range [off, end) of an image.
type span struct{ off, end int64 }

func (s span) overlaps(o span) bool { return s.off < o.end && o.off < s.end }

// A tally counts what went to the image, bytes.
type tally struct{ data, zeros atomic.Int64 }

func newSink(ctx context.Context, img target.Image, buffers *Buffers, count *tally) *sink {
	s := &sink{img: img, hints: img.Hints(), lend: buffers.lend(), landed: make(chan struct{}, 1), tally: count}
	if s.hints.Chunk <= 0 || s.hints.Chunk > bufferSize {
		s.hints.Chunk = bufferSize
	}
	s.hints.Parallel = max(s.hints.Parallel, 1)
	s.hints.ZeroRun = max(s.hints.ZeroRun, zeroUnit)
	s.slots = make(chan struct{}, s.hints.Parallel)
	s.ctx, s.stop = context.WithCancelCause(ctx)
	return s
}

// piece is how much of n bytes at off goes into one buffer: up to the end of an
// object.
func (s *sink) piece(off, n int64) int64 { return min(n, s.hints.Chunk-off%s.hints.Chunk) }

// A filling gives the bytes of a buffer, in the goroutine that writes them.
type filling func(ctx context.Context, p []byte) error

// write has b[:n] written at off, after fill has set it where that isn't nil. The
// buffer is the sink's from here on.
func (s *sink) write(off int64, b *buffer, n int64, fill filling) error {
	blank := s.blank && off >= s.high
	return s.launch(span{off, off + n}, b.put, func() error {
		p := b.room[:n]
		if fill != nil {
			if err := fill(s.ctx, p); err != nil {
				return err
			}
		}
		return s.store(p, off, blank)
	})
}

// zero has [off, off+n) read as zeros.
func (s *sink) zero(off, n int64) error {
	for n > 0 {
		piece := min(n, zeroPiece-off%zeroPiece)
		if !s.blank || off < s.high {
			at := off
			err := s.launch(span{at, at + piece}, func() {}, func() error { return s.clear(at, piece) })
			if err != nil {
				return err
			}
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// launch runs work in its own goroutine, once nothing under way overlaps with
// what it changes. done is always called.
func (s *sink) launch(where span, done func(), work func() error) error {
	if err := s.enter(where); err != nil {
		done()
		return err
	}
	s.high = max(s.high, where.end)
	go func() {
		if err := work(); err != nil {
			s.stop(err)
		}
		done()
		s.leave(where)
	}()
	return nil
}

// enter waits for a slot, and for what where overlaps with.
func (s *sink) enter(where span) error {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	if err := s.await(&where); err != nil {
		<-s.slots
		return err
	}
	s.mu.Lock()
	s.flying = append(s.flying, where)
	s.mu.Unlock()
	return nil
}

// leave is the end of a write.
func (s *sink) leave(where span) {
	s.mu.Lock()
	for i, f := range s.flying {
		if f == where {
			last := len(s.flying) - 1
			s.flying[i] = s.flying[last]
			s.flying = s.flying[:last]
			break
		}
	}
	s.mu.Unlock()
	<-s.slots
	select {
	case s.landed <- struct{}{}:
	default:
	}
}

// busy tells whether a write is under way: one that overlaps, or any for nil.
func (s *sink) busy(where *span) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if where == nil {
		return len(s.flying) > 0
	}
	for _, f := range s.flying {
		if f.overlaps(*where) {
			return true
		}
	}
	return false
}

// drain waits until nothing is under way, or for the first error: what is under
// way then may take as long as the target doesn't answer.
func (s *sink) drain() error { return s.await(nil) }

// await waits until nothing that overlaps with where is under way, nothing at all
// for nil, or for the first error.
func (s *sink) await(where *span) error {
	for s.ctx.Err() == nil && s.busy(where) {
		select {
		case <-s.landed:
		case <-s.ctx.Done():
		}
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// abandon starts nothing more, and waits for what is under way.
func (s *sink) abandon() {
	s.stop(context.Canceled)
	for s.busy(nil) {
		<-s.landed
	}
}

// resize changes the size of the image, between two writes.
func (s *sink) resize(size int64) error {
	if err := s.drain(); err != nil {
		return err
	}
	if size == s.img.Size() {
		return nil
	}
	if err := s.img.Resize(s.ctx, size); err != nil {
		return err
	}
	s.high = min(s.high, size) // what was cut is blank when it comes back
	return nil
}

// store writes p at off, and long runs of zeros in it as such.
func (s *sink) store(p []byte, off int64, blank bool) error {
	for at := 0; at < len(p); {
		zeros := zeroPrefix(p[at:], off+int64(at))
		if worth := int64(zeros) >= s.hints.ZeroRun; worth || zeros == len(p)-at && zeros > 0 {
			if err := s.storeZeros(off+int64(at), int64(zeros), blank); err != nil {
				return err
			}
			at += zeros
			continue
		}
		n := zeros + s.dataPrefix(p[at+zeros:], off+int64(at+zeros))
		if err := s.img.WriteAt(s.ctx, p[at:at+n], off+int64(at)); err != nil {
			return err
		}
		s.tally.data.Add(int64(n))
		at += n
	}
	return nil
}

func (s *sink) storeZeros(off, n int64, blank bool) error {
	if blank {
		s.tally.zeros.Add(n)
		return nil
	}
	return s.clear(off, n)
}

func (s *sink) clear(off, n int64) error {
	if err := s.img.Zero(s.ctx, off, n); err != nil {
		return err
	}
	s.tally.zeros.Add(n)
	return nil
}

var zeroBlock [zeroUnit]byte

// zeroPrefix is how many bytes of p are zeros up to the first unit of the image
// that has others.
func zeroPrefix(p []byte, off int64) int {
	n := 0
	for n < len(p) {
		unit := min(len(p)-n, int(zeroUnit-(off+int64(n))%zeroUnit))
		if !bytes.Equal(p[n:n+unit], zeroBlock[:unit]) {
			break
		}
		n += unit
	}
	return n
}

// dataPrefix is how many bytes of p come before the next run of zeros that is
// worth a call of its own.
func (s *sink) dataPrefix(p []byte, off int64) int {
	for n := 0; n < len(p); {
		zeros := zeroPrefix(p[n:], off+int64(n))
		if int64(zeros) >= s.hints.ZeroRun {
			return n
		}
		n += zeros
		if n < len(p) {
			n += min(len(p)-n, int(zeroUnit-(off+int64(n))%zeroUnit))
		}
	}
	return len(p)
}
