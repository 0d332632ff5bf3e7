package fstest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"rbdbackupfs/chain"
)

// An Extent is a half-open range [Off, Off+len(Data)) of data.
type Extent struct {
	Off  int64
	Data []byte
}

// A Range is half-open: [Off, End).
type Range struct{ Off, End int64 }

// Content is what a snapshot holds: extents in order, holes elsewhere.
type Content struct {
	Size    int64
	Extents []Extent
	// Damaged ranges give Cause, or chain.ErrDamaged.
	Damaged []Range
	Cause   error
	// Short makes a read of a damaged range return fewer bytes and no error.
	Short bool
	// Block, if set, is received from once for each read.
	Block chan struct{}
	// Reads counts reads.
	Reads atomic.Int64
}

// Allocated is the number of bytes in extents.
func (c *Content) Allocated() int64 {
	var n int64
	for _, e := range c.Extents {
		n += int64(len(e.Data))
	}
	return n
}

// Bytes is all of it, for small ones.
func (c *Content) Bytes() []byte {
	all := make([]byte, c.Size)
	for _, e := range c.Extents {
		copy(all[e.Off:], e.Data)
	}
	return all
}

// Data makes a Content of one extent without holes.
func Data(data []byte) *Content {
	return &Content{Size: int64(len(data)), Extents: []Extent{{Data: data}}}
}

// A view is an open Content.
type view struct {
	*Content
	closeOnce sync.Once
	onClose   func()
}

func (v *view) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	v.Reads.Add(1)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if v.Block != nil {
		select {
		case <-v.Block:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if off >= v.Size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), v.Size-off))
	p = p[:n]
	for _, d := range v.Damaged {
		if d.Off < off+int64(n) && off < d.End {
			if v.Short {
				return max(0, int(d.Off-off)), nil
			}
			return 0, fmt.Errorf("reading %d bytes at %d: %w", n, off, cmp.Or(v.Cause, chain.ErrDamaged))
		}
	}
	clear(p)
	for _, e := range v.Extents {
		if from := max(e.Off, off); from < min(e.Off+int64(len(e.Data)), off+int64(n)) {
			copy(p[from-off:], e.Data[from-e.Off:])
		}
	}
	return n, nil
}

func (v *view) NextData(_ context.Context, off int64) (int64, error) {
	for _, e := range v.Extents {
		if off < e.Off+int64(len(e.Data)) {
			return max(off, e.Off), nil
		}
	}
	return 0, chain.ErrNoData
}

func (v *view) NextHole(_ context.Context, off int64) (int64, error) {
	if off >= v.Size {
		return 0, chain.ErrNoData
	}
	for _, e := range v.Extents {
		if off < e.Off {
			return off, nil
		}
		off = max(off, e.Off+int64(len(e.Data)))
	}
	return min(off, v.Size), nil
}

func (v *view) Close() error {
	v.closeOnce.Do(v.onClose)
	return nil
}
