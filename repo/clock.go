package repo

import "time"

// A Clock tells the time and sets timers. It is safe for concurrent use.
// Tests inject one that they move by hand.
type Clock interface {
	// Now returns the current time. Differences of two readings are used, and
	// should not jump when the system's clock is set.
	Now() time.Time
	// Timer returns a channel on which one value arrives at the given time, or
	// at once if that has passed, and a function that drops the timer.
	Timer(at time.Time) (fired <-chan time.Time, stop func())
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Timer(at time.Time) (<-chan time.Time, func()) {
	t := time.NewTimer(time.Until(at))
	return t.C, func() { t.Stop() }
}
