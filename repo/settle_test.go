package repo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A program writes a file bit by bit, and keeps it open between the bits.
func TestGrowingFileSettlesWhenItsWriterIsDone(t *testing.T) {
	dir := leaseDir(t)
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `while read -r line; do echo "$line"; done >"$1"`, "sh",
		filepath.Join(dir, "a"))
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	w.want("added a unsettled")
	path := filepath.Join(dir, "a")
	for i := range 5 {
		fmt.Fprintln(in, "some data")
		for pinNow(t, path).Size < int64(10*(i+1)) {
			w.pass(time.Millisecond)
		}
		w.pass(3 * settleWithin)
	}
	if len(w.batches) > 0 {
		t.Errorf("changes while it is being written: %v", <-w.batches)
	}
	must(t, in.Close())
	must(t, cmd.Wait())
	batch := w.next()
	if got := words(batch); !slices.Equal(got, []string{"changed a settled"}) || batch[0].File.Pin.Size != 50 {
		t.Errorf("changes %+v", batch)
	}
}

// A writer of another machine can't be seen, so its writes have to be.
func TestTwoLooksHaveToAgree(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "x")
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	for i := range 20 { // there is a write between any two looks
		w.pass(settleAfter * 2 / 5)
		put(t, dir, "a", strings.Repeat("x", i+2))
		w.pass(settleAfter * 2 / 5)
	}
	if len(w.batches) > 0 {
		t.Errorf("changes while it is being written: %v", <-w.batches)
	}
	w.want("changed a settled")
}

func TestFileKeptOpenIsTold(t *testing.T) {
	dir := leaseDir(t)
	f, err := os.Create(filepath.Join(dir, "a"))
	must(t, err)
	w, _ := watchTree(t, dir, Options{}, nothingKnown)
	w.pass(openNotice + settleWithin)
	batch := w.next()
	if got := words(batch); !slices.Equal(got, []string{"changed a unsettled"}) ||
		!strings.Contains(batch[0].File.Why, "open for writing") || batch[0].File.Cure == "" {
		t.Errorf("changes %+v", batch)
	}
	must(t, f.Close())
	w.want("changed a settled")
}

// Looks that take two milliseconds each: 3,000 files take seconds, and the two
// looks at each of them must all the same be half a second to a second apart.
func TestManyFilesSettleOnSlowStorage(t *testing.T) {
	const files = 3000
	dir := t.TempDir()
	for i := range files {
		put(t, dir, fmt.Sprintf("%02d/%d", i%10, i), "x")
	}
	clock := newManualClock()
	clock.perNow = 2 * time.Millisecond
	r := open(t, dir, Options{Clock: clock})
	tr := newTree(nothingKnown)
	s := settler{repo: r, tree: tr}
	for i := range 10 {
		look := r.readFolder(fmt.Sprintf("%02d", i), make([]byte, 64<<10))
		f := newFolder(look.path)
		tr.root.subs[look.path] = f
		tr.takeIn(f, &look)
	}
	s.take()
	start := r.now()
	settled := func() (n int) {
		for _, c := range tr.changes {
			if c.File.State == Settled {
				n++
			}
		}
		return n
	}
	for steps := 0; settled() < files; steps++ {
		at, waiting := s.next(r.now())
		if !waiting || steps > 1000 {
			t.Fatalf("after %d steps and %v, %d of %d are settled", steps, r.now()-start, settled(), files)
		}
		clock.advance(max(at-r.now(), 0))
		before := entries(tr)
		s.step()
		for path, e := range entries(tr) {
			if e.state == Settled && before[path].state != Settled {
				if gap := e.at - before[path].at; gap < settleAfter || gap > settleWithin {
					t.Errorf("%s settled by two looks %v apart", path, gap)
				}
			}
		}
	}
	if took := r.now() - start; took > 6*files*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func entries(tr *tree) map[string]entry {
	all := make(map[string]entry)
	for _, f := range tr.root.subs {
		for name, e := range f.files {
			all[join(f.path, name)] = e
		}
	}
	return all
}

func BenchmarkWatchUntilSettled(b *testing.B) {
	r := open(b, plantTree(b, 1000, 100), Options{})
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		settled, start := 0, time.Now()
		_ = r.Watch(ctx, nothingKnown, func(batch []Change) {
			for _, c := range batch {
				switch {
				case c.File.State == Settled:
					settled++
				case !c.Initial:
					b.Errorf("%+v", c)
				}
			}
			if settled == 0 {
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-to-first-batch")
			}
			if settled == 100_000 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc>>20), "MiB-live")
				cancel()
			}
		})
	}
}
