package packed

import "context"

// A turn is to be waited for by who takes much memory.
type turn struct {
	ctx  context.Context //nolint:containedctx // of the one call that it lives for
	of   chan struct{}
	mine bool
}

func (t *turn) take(n int64) error {
	if t.mine || n <= heavyMemory {
		return nil
	}
	select {
	case t.of <- struct{}{}:
		t.mine = true
		return nil
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

func (t *turn) end() {
	if t.mine {
		<-t.of
	}
}
