package repo

import (
	"sync"
	"testing"
	"time"
)

// A manualClock stands still until it is moved. Only timers make it move, so a
// test waits for events of the real file system and for nothing else.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	perNow time.Duration // how much later it is after each reading: slow work
	timers map[*manualTimer]struct{}
	set    chan struct{} // closed when the next timer is set
}

type manualTimer struct {
	at    time.Time
	fired chan time.Time
}

func newManualClock() *manualClock {
	return &manualClock{
		now: time.Unix(1_700_000_000, 0), timers: make(map[*manualTimer]struct{}), set: make(chan struct{}),
	}
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.perNow)
	return c.now
}

func (c *manualClock) Timer(at time.Time) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &manualTimer{at: at, fired: make(chan time.Time, 1)}
	c.timers[t] = struct{}{}
	c.fire()
	close(c.set)
	c.set = make(chan struct{})
	return t.fired, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

// fire ends the timers whose time has come.
func (c *manualClock) fire() {
	for t := range c.timers {
		if !t.at.After(c.now) {
			t.fired <- c.now
			delete(c.timers, t)
		}
	}
}

// advance moves the clock.
func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.fire()
}

// newTimer returns a channel that is closed when the next timer is set.
func (c *manualClock) newTimer() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set
}

// next returns how long it is until the next timer fires; false: there is none.
func (c *manualClock) next() (left time.Duration, armed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.timers {
		if d := t.at.Sub(c.now); !armed || d < left {
			left, armed = d, true
		}
	}
	return left, armed
}

func TestSystemClock(t *testing.T) {
	var c Clock = systemClock{}
	before := c.Now()
	fired, stop := c.Timer(before.Add(time.Millisecond))
	defer stop()
	if at := <-fired; at.Sub(before) < time.Millisecond {
		t.Errorf("fired %v after it was set, want at least 1ms", at.Sub(before))
	}
}
