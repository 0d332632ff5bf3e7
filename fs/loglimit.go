package fs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// How much is logged: a damaged file under a reader that tries again and again
// must not fill the disk with words.
const (
	logWindow   = time.Minute
	logPerKey   = 3   // messages of one snapshot in a window
	logPerMount = 100 // messages of all in a window
)

// A logLimit passes on a few messages per key and window, and counts the rest.
type logLimit struct {
	logger *slog.Logger
	now    func() time.Time

	mu         sync.Mutex
	begin      time.Time
	perKey     map[string]int
	passed     int
	suppressed int
}

func newLogLimit(logger *slog.Logger, now func() time.Time) *logLimit {
	return &logLimit{logger: logger, now: now, perKey: map[string]int{}}
}

// log logs the message or counts it. The first message of a window says how
// many were left out before.
//
//nolint:sloglint // the callers' messages are constants
func (l *logLimit) log(level slog.Level, key, msg string, attrs ...slog.Attr) {
	pass, suppressed := l.take(key)
	if !pass {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	l.logger.LogAttrs(context.Background(), level, msg, attrs...)
}

// take decides about one message, without I/O under the lock.
func (l *logLimit) take(key string) (pass bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.begin.IsZero() || now.Sub(l.begin) >= logWindow {
		l.begin, l.passed = now, 0
		clear(l.perKey)
	}
	if l.passed >= logPerMount || l.perKey[key] >= logPerKey {
		l.suppressed++
		return false, 0
	}
	l.passed++
	l.perKey[key]++
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// flush tells what was left out since the last message.
func (l *logLimit) flush() {
	l.mu.Lock()
	suppressed := l.suppressed
	l.suppressed = 0
	l.mu.Unlock()
	if suppressed > 0 {
		l.logger.Info("errors like the ones above were not logged", slog.Int("suppressed", suppressed))
	}
}
