package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Base is the bytes under an overlay.
type Base interface {
	// ReadAt fills p or gives an error, io.EOF at most where p ends with the image.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// An Overlay is what was written over one snapshot. All methods but Close may be called
// at the same time.
type Overlay struct {
	store *Store
	base  string // path of its files without the ending
	id    Identity

	// Guarded by store.mu.
	refs   int
	exists bool  // there are files
	err    error // why they can't be used
	bytes  int64 // that count against the limit

	data *os.File // nil before the first write
	log  *os.File

	// writers is held for reading by writes to blocks that have their place, and for
	// writing by what changes which blocks are owned.
	writers sync.RWMutex
	syncing sync.Mutex

	mu       sync.Mutex
	owned    *blocks
	backed   *blocks // those of the owned that take room; the others are zeros
	dirty    *blocks // those of the owned that the log doesn't have
	logged   int64   // bytes of the log
	packed   int64   // bytes of the log when it was last made anew
	modified time.Time
	failed   error // of a sync
	refused  error // of a write since the last sync
}

func newOverlay(s *Store, base string, id Identity) *Overlay {
	return &Overlay{store: s, base: base, id: id, owned: newBlocks(), backed: newBlocks(), dirty: newBlocks()}
}

func (o *Overlay) info() Info {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Info{Identity: o.id, Bytes: o.bytes, Modified: o.modified, Open: o.refs, Files: o.base, Err: o.err}
}

// Size is that of the image, bytes.
func (o *Overlay) Size() int64 { return o.id.Size }

// Close ends the use of the overlay. What was written is durable then, unless it says
// otherwise.
func (o *Overlay) Close() error { return o.store.close(o) }

// covering is the run of blocks that a range touches.
func covering(off, n int64) run {
	return run{off >> blockShift, (off + n + blockSize - 1) >> blockShift}
}

// check refuses ranges that aren't within the image.
func (o *Overlay) check(off, n int64) error {
	if off < 0 || n < 0 || off > o.id.Size || n > o.id.Size-off {
		return fmt.Errorf("%d bytes at %d: %w", n, off, ErrRange)
	}
	return nil
}

// ReadAt fills p with the bytes from off on, from the overlay or from the base. p lies
// within the image. It returns all of them or an error.
func (o *Overlay) ReadAt(ctx context.Context, base Base, p []byte, off int64) (int, error) {
	if err := o.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	for at := off; at < off+int64(len(p)); {
		owned, end := o.stretch(at, off+int64(len(p)))
		part := p[at-off : end-off]
		if err := o.read(ctx, base, owned, part, at); err != nil {
			return 0, err
		}
		at = end
	}
	return len(p), nil
}

func (o *Overlay) read(ctx context.Context, base Base, owned bool, p []byte, off int64) (err error) {
	var n int
	if owned {
		n, err = o.data.ReadAt(p, off)
	} else {
		n, err = base.ReadAt(ctx, p, off)
	}
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at %d: %w", len(p), off, err)
}

// stretch tells whether the byte at off is the overlay's, and how far that goes: at most
// to limit.
func (o *Overlay) stretch(off, limit int64) (owned bool, end int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	owned, block := o.owned.stretch(off>>blockShift, covering(0, limit).to)
	return owned, min(block<<blockShift, limit)
}

// A Kind says whose bytes are at a place.
type Kind uint8

// The kinds.
const (
	OfBase Kind = iota // what the base has there
	Data               // what was written
	Hole               // zeros that take no room
)

// Look tells whose bytes are at off, which lies in the image, and where that ends.
func (o *Overlay) Look(off int64) (kind Kind, end int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	limit := blockCount(o.id.Size)
	owned, end := o.owned.stretch(off>>blockShift, limit)
	if !owned {
		return OfBase, min(end<<blockShift, o.id.Size)
	}
	backed, until := o.backed.stretch(off>>blockShift, end)
	if kind = Hole; backed {
		kind = Data
	}
	return kind, min(until<<blockShift, o.id.Size)
}

// WriteAt writes p, which lies within the image. Errors: ErrLimit; ErrFailed; those of
// the file system, unix.ENOSPC among them.
func (o *Overlay) WriteAt(ctx context.Context, base Base, p []byte, off int64) (int, error) {
	if err := o.check(off, int64(len(p))); err != nil || len(p) == 0 {
		return 0, err
	}
	if done, n, err := o.inPlace(p, off); done {
		return n, err
	}
	o.writers.Lock()
	defer o.writers.Unlock()
	n, err := o.put(ctx, base, p, off)
	return n, o.refuse(err)
}

// refuse notes that a write failed, for the next sync to say so. Not everybody hears it
// from the write: the kernel splits large ones, and a loop device takes it for success if
// the first part was written.
func (o *Overlay) refuse(err error) error {
	if err != nil {
		o.mu.Lock()
		o.refused = err
		o.mu.Unlock()
	}
	return err
}

// inPlace writes where all blocks have their place. Nothing else has to be done then.
func (o *Overlay) inPlace(p []byte, off int64) (done bool, n int, err error) {
	o.writers.RLock()
	defer o.writers.RUnlock()
	r := covering(off, int64(len(p)))
	o.mu.Lock()
	err = o.failed
	done = err != nil || o.backed.within(r) == r.len()
	if done {
		o.modified = time.Now()
	}
	o.mu.Unlock()
	if !done || err != nil {
		return done, 0, err
	}
	n, err = o.data.WriteAt(p, off)
	return true, n, o.refuse(err)
}

// put writes with writers held: first the whole of all blocks, then the note that they
// are owned.
func (o *Overlay) put(ctx context.Context, base Base, p []byte, off int64) (int, error) {
	r := covering(off, int64(len(p)))
	whole, start, err := o.widen(ctx, base, p, off)
	if err != nil {
		return 0, err
	}
	need := (r.len() - o.count(o.backed, r)) << blockShift
	if err := o.store.reserve(o, need); err != nil {
		return 0, err
	}
	if err = o.create(); err == nil {
		_, err = o.data.WriteAt(whole, start)
	}
	if err != nil {
		o.forget(r)
		return 0, errors.Join(err, o.store.reserve(o, -need))
	}
	o.own(r)
	o.mu.Lock()
	o.backed.add(r)
	o.mu.Unlock()
	return len(p), nil
}

// widen adds to p what the base has of the blocks at its ends.
func (o *Overlay) widen(ctx context.Context, base Base, p []byte, off int64) ([]byte, int64, error) {
	end := off + int64(len(p))
	from, to := off, end
	r := covering(off, int64(len(p)))
	if !o.has(r.from) {
		from = r.from << blockShift
	}
	if !o.has(r.to - 1) {
		to = min(r.to<<blockShift, o.id.Size)
	}
	if from == off && to == end {
		return p, off, nil
	}
	whole := make([]byte, to-from)
	copy(whole[off-from:], p)
	if err := o.read(ctx, base, false, whole[:off-from], from); err != nil {
		return nil, 0, err
	}
	if err := o.read(ctx, base, false, whole[end-from:], end); err != nil {
		return nil, 0, err
	}
	return whole, from, nil
}

func (o *Overlay) has(block int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owned.has(block)
}

func (o *Overlay) count(set *blocks, r run) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return set.within(r)
}

// own notes that blocks are the overlay's.
func (o *Overlay) own(r run) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := r.from; at < r.to; {
		owned, end := o.owned.stretch(at, r.to)
		if !owned {
			o.dirty.add(run{at, end})
		}
		at = end
	}
	o.owned.add(r)
	o.modified = time.Now()
}

// forget takes room back that a write which failed may have taken.
func (o *Overlay) forget(r run) {
	if o.data == nil {
		return
	}
	for at := r.from; at < r.to; {
		o.mu.Lock()
		backed, end := o.backed.stretch(at, r.to)
		o.mu.Unlock()
		if !backed {
			_ = punch(o.data, run{at, end}) // it failed for want of room at most
		}
		at = end
	}
}

func punch(f *os.File, r run) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.from<<blockShift, r.len()<<blockShift)
}
