package restore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// copyGrace is how long a copy may go on after its context has ended.
const copyGrace = 500 * time.Millisecond

// A feed hands the calls on an open file, which come from any goroutine, to the
// one goroutine of its restore. A call waits until it is answered; where its
// context ends first it gives up, and the restore learns how much of it counts.
type feed struct {
	calls chan *call
	// gone is closed when nobody takes calls any more; last is then what they get.
	gone chan struct{}
	last error
}

func newFeed() *feed { return &feed{calls: make(chan *call), gone: make(chan struct{})} }

// The kinds of calls.
type callKind int

const (
	callWrite callKind = iota
	callTruncate
	callCopy
	callSync
	callFlush
	callRelease
)

// A call is one request. The fields but for the payload belong to the restore's
// goroutine once the call was sent.
type call struct {
	kind   callKind
	off    int64 // in the file; of callTruncate the length
	killed bool  // of callFlush

	// of callCopy
	ctx  context.Context
	src  Source
	from int64

	n       int64        // length of a write or of a copy
	taken   atomic.Int64 // how much of it the restore has taken
	payload payload
	done    chan error // gets the answer
}

// A payload is bytes that the caller takes back when it gives up.
type payload struct {
	mu   sync.Mutex
	p    []byte // what is left; nil once it was taken back
	gone bool
}

// take moves bytes to dst.
func (c *call) take(dst []byte) int {
	c.payload.mu.Lock()
	defer c.payload.mu.Unlock()
	n := copy(dst, c.payload.p)
	c.payload.p = c.payload.p[n:]
	c.taken.Add(int64(n))
	return n
}

// left is how many bytes there still are to take.
func (c *call) left() int64 {
	c.payload.mu.Lock()
	defer c.payload.mu.Unlock()
	return int64(len(c.payload.p))
}

// giveUp takes the payload back.
func (c *call) giveUp() {
	c.payload.mu.Lock()
	defer c.payload.mu.Unlock()
	c.payload.p, c.payload.gone = nil, true
}

// answer ends the call.
func (c *call) answer(err error) { c.done <- err }

// do sends a call and waits for its answer.
func (f *feed) do(ctx context.Context, c *call) error {
	c.done = make(chan error, 1)
	select {
	case f.calls <- c:
	case <-f.gone:
		return f.last
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		c.giveUp()
		return context.Cause(ctx)
	}
}

// write sends p, and returns how much of it was taken, with an error only where
// that is nothing, or where the restore has failed.
func (f *feed) write(ctx context.Context, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c := &call{kind: callWrite, off: off, n: int64(len(p)), payload: payload{p: p}}
	err := f.do(ctx, c)
	n := int(c.taken.Load())
	if n > 0 && ended(ctx) {
		return n, nil // the writer is told of an error by its next call
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

// copy has [from, from+n) of src taken for the bytes at off, until ctx ends.
func (f *feed) copy(ctx context.Context, src Source, from, off, n int64) (int64, error) {
	if n <= 0 {
		return 0, nil
	}
	c := &call{kind: callCopy, ctx: ctx, src: src, from: from, off: off, n: n}
	// The restore looks at ctx by itself, and stops a little later than it ends:
	// what it has taken by then needn't be read again.
	wait, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(copyGrace, func() { cancel(context.Cause(ctx)) })
	})
	defer stop()
	err := f.do(wait, c)
	taken := c.taken.Load()
	if err != nil && taken > 0 && wait.Err() != nil {
		err = nil
	}
	return taken, err
}

// end has no more calls taken; those that come get err.
func (f *feed) end(err error) {
	f.last = err
	close(f.gone)
}
