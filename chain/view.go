package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/packed"
	"rbdbackupfs/repo"
)

// A source is where the bytes of a node's step lie now.
type source struct {
	path string
	pin  repo.Pin // that of a damaged file differs from what was indexed

	unpacked *packed.Map // nil for a file that isn't packed
}

// A View is the bytes of an image at one snapshot. It is safe for concurrent
// use, and doesn't follow changes: when a backup file that it needs is
// replaced, its reads end in errors.
type View struct {
	lib *Library
	m   *index.Map
	n   *index.Node
}

var segmentPool = sync.Pool{New: func() any { return new([]index.Segment) }}

// OpenView gives the bytes of a snapshot that an Image of this library holds.
func (l *Library) OpenView(s *Snapshot) (*View, error) {
	if s == nil || s.node == nil {
		return nil, ErrNotFound
	}
	return l.view(s.node), nil
}

func (l *Library) view(n *index.Node) *View { return &View{l, l.ix.Map(n), n} }

// Size is the size of the image, bytes.
func (v *View) Size() int64 { return v.n.Size }

// Close ends the use of the view.
func (v *View) Close() error { return nil }

// ReadAt fills p with the bytes from off on. Below Size it returns all of them
// or an error, never fewer; a read that reaches past Size ends there with
// io.EOF. Errors: ErrDamaged when bytes of a backup file are gone or changed.
func (v *View) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at offset %d: %w", off, ErrNotFound)
	}
	if off >= v.n.Size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > v.n.Size-off {
		p = p[:v.n.Size-off]
		end = io.EOF
	}
	v.lib.reads.Add(1)
	if err := v.fill(ctx, p, off); err != nil {
		v.lib.readErrors.Add(1)
		return 0, err
	}
	v.lib.readBytes.Add(uint64(len(p)))
	return len(p), end
}

func (v *View) fill(ctx context.Context, p []byte, off int64) error {
	pooled := segmentPool.Get().(*[]index.Segment)
	defer segmentPool.Put(pooled)
	segs, err := v.m.Append((*pooled)[:0], off, off+int64(len(p)))
	*pooled = segs
	if err != nil {
		return err
	}
	var in reading
	defer in.release()
	for _, s := range segs {
		part := p[s.Off-off : s.End()-off]
		if s.Hole() {
			clear(part)
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := in.read(ctx, v.lib, s, part); err != nil {
			return err
		}
	}
	return in.check()
}

// A reading keeps the file of the segment before open: the next one mostly
// needs the same.
type reading struct {
	number uint32
	h      *content
}

func (r *reading) read(ctx context.Context, l *Library, s index.Segment, p []byte) error {
	if r.h == nil || r.number != s.Source {
		if err := r.check(); err != nil {
			return err
		}
		r.release()
		src := l.source(s.Source)
		if src == nil {
			return fmt.Errorf("%w: node %d has no file", ErrDamaged, s.Source)
		}
		h, err := l.open(ctx, src.path, src.pin, src.unpacked)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		r.h, r.number = h, s.Source
	}
	if _, err := r.h.ReadAt(p, s.Pos); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %s at byte %d: %w", ErrDamaged, r.h.Path(), s.Pos, err)
	}
	return nil
}

// check makes sure that what was read is what was indexed. A file that was
// deleted or renamed meanwhile still is.
func (r *reading) check() error {
	if r.h == nil {
		return nil
	}
	if err := r.h.Check(); err != nil && !errors.Is(err, repo.ErrGone) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func (r *reading) release() {
	if r.h != nil {
		r.h.Release()
		r.h = nil
	}
}

// NextData returns the first offset at or after off that data covers, or
// ErrNoData.
func (v *View) NextData(_ context.Context, off int64) (int64, error) {
	at, err := v.m.NextData(off)
	if errors.Is(err, io.EOF) {
		return 0, ErrNoData
	}
	return at, err
}

// NextHole returns the first offset at or after off that no data covers, which
// may be Size, or ErrNoData at or past Size.
func (v *View) NextHole(_ context.Context, off int64) (int64, error) {
	at, err := v.m.NextHole(off)
	if errors.Is(err, io.EOF) {
		return 0, ErrNoData
	}
	return at, err
}

func (l *Library) source(number uint32) *source {
	l.sourcesMu.RLock()
	defer l.sourcesMu.RUnlock()
	return l.sources[number]
}

func (l *Library) setSource(number uint32, s source) {
	l.sourcesMu.Lock()
	defer l.sourcesMu.Unlock()
	if old := l.sources[number]; old == nil || *old != s {
		l.sources[number] = &s
	}
}
