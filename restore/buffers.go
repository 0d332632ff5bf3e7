package restore

import (
	"context"
	"sync"
)

// bufferSize is what is written at once at most, bytes: larger writes were no faster,
// neither to Ceph nor to a disk.
const bufferSize = 1 << 20

// Buffers bound the memory of all restores of a process together. Each restore
// has one buffer of its own, so that none waits for another for ever, and takes
// more of the shared ones while there are some.
type Buffers struct {
	shared chan struct{}
	pool   sync.Pool
}

// DefaultBuffers is how many buffers are shared, 1 MiB each: what keeps one
// restore as fast as it gets, with room for a second one.
const DefaultBuffers = 23

// NewBuffers returns n buffers of 1 MiB to share; they are allocated when they
// are used.
func NewBuffers(n int) *Buffers {
	b := &Buffers{shared: make(chan struct{}, n)}
	for range n {
		b.shared <- struct{}{}
	}
	b.pool.New = func() any { return new([bufferSize]byte) }
	return b
}

// A lender gives buffers to one restore.
type lender struct {
	all *Buffers
	own chan struct{}
}

func (b *Buffers) lend() *lender {
	l := &lender{all: b, own: make(chan struct{}, 1)}
	l.own <- struct{}{}
	return l
}

// A buffer holds what goes to one place of the image.
type buffer struct {
	room *[bufferSize]byte
	from *lender
	own  bool
}

// get waits for a buffer.
func (l *lender) get(ctx context.Context) (*buffer, error) {
	b := &buffer{from: l}
	select {
	case <-l.own:
		b.own = true
	default:
		select {
		case <-l.own:
			b.own = true
		case <-l.all.shared:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	b.room = l.all.pool.Get().(*[bufferSize]byte)
	return b, nil
}

// put gives the buffer back.
func (b *buffer) put() {
	b.from.all.pool.Put(b.room)
	b.room = nil
	if b.own {
		b.from.own <- struct{}{}
	} else {
		b.from.all.shared <- struct{}{}
	}
}
