package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/progress"
)

// progressInterval is how often the progress is looked at.
const progressInterval = 200 * time.Millisecond

// errUnmounted: somebody unmounted it before it was ready.
var errUnmounted = errors.New("it was unmounted before it was ready; mount it again")

// waiting says what await waits for.
type waiting struct {
	until    <-chan struct{} // closed when it is over
	enough   func() bool     // if set, it is also over once this holds
	limit    time.Duration   // if set, it is also over then, unfinished
	gone     <-chan struct{} // if set and closed, waiting is in vain
	progress bool            // shown on stderr
}

// await waits until w is over, and reports whether it is finished.
func (a *app) await(ctx context.Context, s *session, w waiting) (finished bool, err error) {
	changed := make(chan struct{}, 1)
	cancel := s.lib.Subscribe(func(chain.Event) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	limit, stop := timer(w.limit)
	defer stop()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	bar := a.progress("indexing")
	defer func() { bar.Finish(finished) }()
	listed := s.lib.Listed()
	for {
		if w.enough != nil && w.enough() {
			return true, nil
		}
		if p := s.lib.Status().Progress; w.progress {
			done, total, unit := work(p)
			bar.Update(done, total, unit, printable(p.Now))
		}
		select {
		case <-w.until:
			return true, nil
		case <-listed:
			listed = nil
		case <-changed:
		case <-tick.C:
		case <-limit:
			return false, nil
		case <-w.gone:
			return false, errUnmounted
		case err, failed := <-s.failed:
			if !failed {
				err = context.Cause(ctx)
			}
			return false, err
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// work is how far indexing has come: in bytes as long as compressed files aren't
// read, in files as long as there are some whose headers aren't known, then in steps.
func work(p chain.Progress) (done, total int64, unit string) {
	switch {
	case p.BytesDone < p.BytesTotal:
		return p.BytesDone, p.BytesTotal, progress.Bytes
	case p.FilesDone < p.FilesTotal || p.StepsTotal == 0:
		return int64(p.FilesDone), int64(p.FilesTotal), "files"
	}
	return int64(p.StepsDone), int64(p.StepsTotal), "steps"
}

// workLeft is work in words.
func workLeft(p chain.Progress) string {
	done, total, unit := work(p)
	if unit == progress.Bytes {
		return fmt.Sprintf("%s of %s", size(done), size(total))
	}
	return fmt.Sprintf("%d of %d %s", done, total, unit)
}

// timer is one that never fires for 0.
func timer(d time.Duration) (<-chan time.Time, func()) {
	if d == 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
