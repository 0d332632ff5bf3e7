package progress

import (
	"strings"
	"testing"
	"time"
)

// A clock that is set by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func TestNothingIsShownForShortWork(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, false, "indexing", c.now)
	c.advance(Patience - time.Millisecond)
	r.Update(1, 2, "files", "a.diff")
	r.Finish(true)
	if out.String() != "" {
		t.Errorf("shown before %s: %q", Patience, out.String())
	}
}

func TestPlainLinesAreFarApart(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, false, "indexing", c.now)
	for range 130 { // 13 s in steps of 100 ms
		c.advance(100 * time.Millisecond)
		r.Update(1, 4, "files", "a.diff")
	}
	r.Finish(true)
	want := strings.Repeat("indexing: 1 of 4 files (25 %), now a.diff\n", 2) + "indexing: done in 13s\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}

func TestTerminalGetsABarThatGoesAway(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, true, "indexing", c.now)
	c.advance(3 * time.Second)
	r.Update(1, 4, "files", "a.diff")
	if !strings.Contains(out.String(), "indexing files a.diff") || strings.Contains(out.String(), "\n") {
		t.Errorf("no bar on one line: %q", out.String())
	}
	r.Finish(true)
	if !strings.HasSuffix(out.String(), "\r") {
		t.Errorf("the bar stays: %q", out.String())
	}
}

func TestNoFilesAtAll(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, false, "indexing", c.now)
	c.advance(3 * time.Second)
	r.Update(0, 0, "files", "")
	if got, want := out.String(), "indexing: 0 of 0 files\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBytesAreReadable(t *testing.T) {
	var plain, drawn strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	lines, bar := New(&plain, false, "restoring", c.now), New(&drawn, true, "restoring", c.now)
	c.advance(3 * time.Second)
	for _, r := range []*Reporter{lines, bar} {
		r.Update(512<<20, 2<<30, Bytes, "rbd/vm1@v2")
	}
	if got, want := plain.String(), "restoring: 512 MiB of 2.0 GiB (25 %), now rbd/vm1@v2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := drawn.String(); !strings.Contains(got, "restoring rbd/vm1@v2 ") || !strings.Contains(got, "GiB") {
		t.Errorf("got %q", got)
	}
}

func TestShortenKeepsTheEnd(t *testing.T) {
	if got, want := shorten("rbd/vm1/0102.diff", 10), "…0102.diff"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInterruptedWorkIsNotDone(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, false, "indexing", c.now)
	c.advance(3 * time.Second)
	r.Update(1, 4, "files", "")
	r.Finish(false)
	if strings.Contains(out.String(), "done") {
		t.Errorf("got %q", out.String())
	}
}

// A bar that was drawn with sizes goes on with numbers.
func TestUnitsChange(t *testing.T) {
	var out strings.Builder
	c := &clock{at: time.Unix(0, 0)}
	r := New(&out, true, "indexing", c.now)
	c.advance(Patience)
	r.Update(1<<20, 4<<20, Bytes, "a.gz")
	before := out.Len()
	r.Update(1, 4, "files", "a.gz")
	if got := out.String()[before:]; strings.Contains(got, "iB") || strings.Contains(got, " B") || !strings.Contains(got, "(1/4)") {
		t.Errorf("%q", got)
	}
}
