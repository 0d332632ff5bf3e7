// Package progress shows how far something long has come: a bar on a
// terminal, a plain line now and then elsewhere, and nothing at all for what
// is done within two seconds.
package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

// Bytes is the unit of sizes, which are shown as 1.5 GiB.
const Bytes = "bytes"

const (
	// Patience is how long nothing is shown.
	Patience = 2 * time.Second
	// interval is how far apart plain lines are.
	interval = 10 * time.Second
)

// A Reporter shows one activity. Not safe for concurrent use.
type Reporter struct {
	w        io.Writer
	terminal bool
	what     string
	now      func() time.Time
	start    time.Time
	next     time.Time // when something is shown
	bar      *progressbar.ProgressBar
	unit     string // that the bar was drawn with
	shown    bool
}

// New starts to report what ("indexing") on w, beginning Patience from now.
func New(w io.Writer, terminal bool, what string, now func() time.Time) *Reporter {
	start := now()
	return &Reporter{w: w, terminal: terminal, what: what, now: now, start: start, next: start.Add(Patience)}
}

// Update says that done of total units are done, and at what it is now, if
// anything. The total may grow. The unit is a noun in the plural.
func (r *Reporter) Update(done, total int64, unit, at string) {
	now := r.now()
	if now.Before(r.next) {
		return
	}
	r.shown = true
	if r.terminal {
		r.draw(done, total, unit, at)
		return
	}
	r.next = now.Add(interval)
	line := fmt.Sprintf("%s: %d of %d %s", r.what, done, total, unit)
	if unit == Bytes {
		line = fmt.Sprintf("%s: %s of %s", r.what, size(done), size(total))
	}
	if total > 0 {
		line += fmt.Sprintf(" (%d %%)", 100*done/total)
	}
	if at != "" {
		line += ", now " + at
	}
	fmt.Fprintln(r.w, line)
}

// Finish removes the bar, or ends the plain lines with how long it took where
// everything was done.
func (r *Reporter) Finish(done bool) {
	if !r.shown {
		return
	}
	if r.terminal {
		// Drawing on a terminal that is gone is no reason to end.
		_ = r.bar.Clear()
		return
	}
	if !done {
		return
	}
	fmt.Fprintf(r.w, "%s: done in %s\n", r.what, r.now().Sub(r.start).Round(time.Second))
}

func (r *Reporter) draw(done, total int64, unit, at string) {
	if r.bar != nil && r.unit != unit && (r.unit == Bytes || unit == Bytes) {
		_ = r.bar.Clear() // it can't go from sizes to numbers
		r.bar = nil
	}
	r.unit = unit
	if r.bar == nil {
		r.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(r.w),
			progressbar.OptionShowCount(),
			progressbar.OptionShowBytes(unit == Bytes),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionFullWidth(),
		)
	}
	r.bar.ChangeMax64(max(total, 1))
	if unit == Bytes {
		unit = "" // the counts say it
	}
	words := slices.DeleteFunc([]string{r.what, unit, shorten(at, 40)}, func(s string) bool { return s == "" })
	r.bar.Describe(strings.Join(words, " "))
	_ = r.bar.Set64(min(done, total))
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// shorten keeps the end of a path, which tells more than its beginning.
func shorten(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return "…" + string(runes[len(runes)-width+1:])
}
