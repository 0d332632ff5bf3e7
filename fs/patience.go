package fs

import (
	"context"
	"time"
)

const (
	// watchPause is between two looks at a caller that was interrupted: the
	// kernel tells of its first signal only.
	watchPause = 200 * time.Millisecond
	// leftLooks is how many looks in a row must find a caller that doesn't wait:
	// it may be about to.
	leftLooks = 3
	// unknownLooks is the same for one that can't be looked at.
	unknownLooks = 50
)

// patient returns a context for what a request has to wait for. It ends when the
// caller dies, and when the kernel has dropped the request; a signal that the
// caller lives through doesn't end it. Go programs get one every few
// milliseconds, and a write or close that failed because of it would have ruined
// a restore.
func (t *tree) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	call, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t.watch(call, callerOf(ctx))
		end()
	})
	return call, func() {
		stop()
		end()
	}
}

// watch returns when nobody waits for call any more.
func (t *tree) watch(call context.Context, from caller) {
	for looks := 1; call.Err() == nil; looks++ {
		limit := leftLooks
		switch from.state() {
		case callerDies:
			return
		case callerWaits:
			looks = 0
		case callerUnknown:
			limit = unknownLooks
		case callerLeft:
		}
		if looks >= limit {
			return
		}
		t.pause(call, watchPause)
	}
}

// pause waits, less where ctx ends.
func (t *tree) pause(ctx context.Context, d time.Duration) {
	wait, cancel := t.opts.Clock.WithTimeout(ctx, d)
	defer cancel()
	<-wait.Done()
}
