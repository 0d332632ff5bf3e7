package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second // how long a test waits for the file system

// put writes a file and the folders above it.
func put(tb testing.TB, dir, rel, content string) {
	tb.Helper()
	path := filepath.Join(dir, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, dir string, o Options) *Repo {
	tb.Helper()
	r, err := Open(dir, o)
	must(tb, err)
	tb.Cleanup(func() { must(tb, r.Close()) })
	return r
}

// pinNow is the pin of a file by package os, for comparison with ours.
func pinNow(tb testing.TB, path string) Pin {
	tb.Helper()
	info, err := os.Stat(path)
	must(tb, err)
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		tb.Fatal("no stat")
	}
	return Pin{Inode: st.Ino, Size: info.Size(), MTimeNs: info.ModTime().UnixNano()}
}

// A logBuffer is a log to look into.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) count(msg string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), msg)
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// A watched is a Watch that runs during a test.
type watched struct {
	t       *testing.T
	ctx     context.Context
	repo    *Repo
	clock   *manualClock
	batches chan []Change
	log     *logBuffer
	notify  *notifier
	patient time.Duration
	seen    []string // what the wait that is under way has got
}

func nothingKnown(string, Pin) bool { return false }

// watchTree starts a Watch of dir and returns it with its first batch.
func watchTree(t *testing.T, dir string, o Options, known func(string, Pin) bool) (*watched, []Change) {
	t.Helper()
	w := &watched{t: t, clock: newManualClock(), batches: make(chan []Change, 1000), log: &logBuffer{}, patient: time.Second}
	o.Clock, o.Logger = w.clock, w.log.logger()
	w.repo = open(t, dir, o)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.ctx = ctx
	ended := make(chan error, 1)
	inner := w.repo.newWatch(known, func(batch []Change) { w.batches <- batch })
	w.notify = inner.notify
	go func() { ended <- inner.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	return w, w.next()
}

// next waits for the next batch. Meanwhile it lets the time of delays up to
// w.patient pass. With a second, that isn't enough for a rescan: what is noticed
// was noticed by inotify.
func (w *watched) next() []Change {
	w.t.Helper()
	for {
		newTimer := w.clock.newTimer()
		left, armed := w.clock.next() // first: a batch is out before the next timer is set
		select {
		case batch := <-w.batches:
			return batch
		default:
		}
		if armed && left <= w.patient {
			w.clock.advance(left)
			continue
		}
		select {
		case batch := <-w.batches:
			return batch
		case <-newTimer:
		case <-w.ctx.Done():
			w.t.Fatalf("no change was reported in time; so far %q, next timer in %v (%v); log:\n%s", w.seen, left, armed, w.log.buf.String())
		}
	}
}

// pass lets some time pass, stopping wherever the watch has something to do.
func (w *watched) pass(d time.Duration) {
	w.t.Helper()
	for end := w.clock.Now().Add(d); ; {
		newTimer := w.clock.newTimer()
		left := end.Sub(w.clock.Now())
		due, armed := w.clock.next()
		switch {
		case armed && due > left:
			w.clock.advance(left)
			return
		case armed:
			w.clock.advance(due)
		default:
			select {
			case <-newTimer:
			case <-w.ctx.Done():
				w.t.Fatal("the watch is stuck")
			}
		}
	}
}

// changes waits for n changes and returns them in words.
func (w *watched) changes(n int) []string {
	w.t.Helper()
	var all []string
	for len(all) < n {
		all = append(all, words(w.next())...)
		w.seen = all
	}
	return all
}

// want waits for exactly these changes. Those of one path have to come in this
// order; which of several paths is told first is up to the file system.
func (w *watched) want(want ...string) {
	w.t.Helper()
	got := w.changes(len(want))
	byPath := func(a, b string) int { return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) }
	slices.SortStableFunc(got, byPath)
	slices.SortStableFunc(want, byPath)
	if !slices.Equal(got, want) {
		w.t.Errorf("changes:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// settles waits for a file to be added and to settle.
func (w *watched) settles(path string) {
	w.t.Helper()
	w.want("added "+path+" unsettled", "changed "+path+" settled")
}

func words(batch []Change) []string {
	var out []string
	for _, c := range batch {
		out = append(out, fmt.Sprintf("%v %s %v", c.Kind, c.File.Path, c.File.State))
	}
	return out
}

// asOther runs the calling test again in a process with other rights and
// returns true in that process. There the test does its work; here it is over.
func asOther(t *testing.T, attr *syscall.SysProcAttr, env ...string) bool {
	t.Helper()
	const marker = "REPO_TEST_OTHER"
	if os.Getenv(marker) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, marker+"="+t.Name())...)
	cmd.SysProcAttr = attr
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in the other process: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("the other process ran no test:\n%s", out)
	}
	return false
}

// openDescriptors returns what the descriptors of this process lead to, below dir.
func openDescriptors(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(tb, err)
	var targets []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, dir+"/") {
			targets = append(targets, to)
		}
	}
	return targets
}
