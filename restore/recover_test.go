package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rbdbackupfs/internal/target"
)

// crash makes what a killed process leaves: the journal unlocked and no more
// calls. The job's goroutine waits, with nothing under way.
func (b *bench) crash(j *Job) {
	b.t.Helper()
	b.must(j.Sync(b.t.Context()))
	b.must(j.record.close())
	j.record.mu.Lock()
	j.record.entry = &entry{} // what is undone at the end of the test must not be noted
	j.record.mu.Unlock()
}

// keep holds on to the files that there are now, to bring them back later.
func (b *bench) keep() (back func()) {
	b.t.Helper()
	kept := filepath.Join(filepath.Dir(b.dir), "kept")
	b.must(os.Mkdir(kept, 0o755))
	names, err := os.ReadDir(filepath.Join(b.dir, "rbd"))
	b.must(err)
	for _, name := range names {
		b.must(os.Link(filepath.Join(b.dir, "rbd", name.Name()), filepath.Join(kept, name.Name())))
	}
	return func() {
		for _, name := range names {
			if err := os.Link(filepath.Join(kept, name.Name()), filepath.Join(b.dir, "rbd", name.Name())); !errors.Is(err, os.ErrExist) {
				b.must(err)
			}
		}
	}
}

// TestRecover: what a killed process left is undone at the next start, or ended
// where all was applied.
func TestRecover(t *testing.T) {
	one, two := full(1<<20), stepSpec{from: "s1", to: "s2", size: 2 << 20, extents: []extentSpec{{off: 9000, data: pattern(5000, 3)}}}
	tests := []struct {
		name     string
		before   bool // the image is there
		content  []byte
		complete bool
		want     []byte
	}{
		{"raw", false, pattern(5000, 1), false, nil},
		{"new diff", false, diff(one)[:6000], false, nil},
		{"new diff, complete", false, diff(one), true, one.apply(nil)},
		{"diff", true, diff(two)[:3000], false, one.apply(nil)},
		{"diff, complete", true, diff(two), true, two.apply(one.apply(nil))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			if tt.before {
				b.must(b.put("vm", diff(one), 5000))
			}
			j := b.start("vm")
			_, err := j.WriteAt(t.Context(), tt.content, 0)
			b.must(err)
			if tt.complete {
				b.must(j.Sync(t.Context()))
				b.must(j.record.complete(b.m.journal))
			}
			b.crash(j)
			back := b.keep()
			j.Release()
			<-j.Done()
			back()
			if left, err := (Journal{b.journal}).Interrupted(); err != nil || len(left) != 1 || left[0].State != StateRunning {
				t.Fatalf("interrupted: %+v, %v", left, err)
			}
			b.open(Options{})
			b.m.Recover()
			b.m.wg.Wait()
			b.holds("vm", tt.want)
			if r := b.last(); (r.State == StateDone) != tt.complete {
				t.Errorf("%+v", r)
			}
			if left, err := (Journal{b.journal}).Interrupted(); err != nil || len(left) != 0 {
				t.Errorf("still interrupted: %+v, %v", left, err)
			}
			if !tt.complete {
				content := diff(one)
				if tt.before {
					content = diff(two)
				}
				b.must(b.put("vm", content, 4000))
			}
		})
	}
}

// TestRecoverLeavesTheLiving: an entry whose process lives is not touched, nor
// one of another target.
func TestRecoverLeavesTheLiving(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	_, err := j.WriteAt(t.Context(), pattern(5000, 1), 0)
	b.must(err)
	folder, err := OpenFolder(b.dir)
	b.must(err)
	none := func(r Report, err error) { t.Errorf("recovered %+v, %v", r, err) }
	b.must(Journal{b.journal}.Recover(t.Context(), folder, none))
	other, err := OpenFolder(t.TempDir())
	b.must(err)
	b.must(Journal{b.journal}.Recover(t.Context(), other, none))
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	b.holds("vm", pattern(5000, 1))
}

// TestTornJournal: a line that was cut off doesn't count, and spoils no later one.
func TestTornJournal(t *testing.T) {
	j := Journal{t.TempDir()}
	e, err := j.create("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	job := target.Job{ID: "0123456789abcdef", Image: image("vm")}
	if err := errors.Join(e.put(Report{ID: job.ID, State: StateRunning}, job), e.close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(j.file(job.ID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"report":{"id":"0123`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	all, err := j.list()
	if err != nil || len(all) != 1 || !all[0].interrupted() {
		t.Fatalf("%+v, %v", all, err)
	}
	e, err = j.reopen(job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.put(Report{ID: job.ID, State: StateDone}, job), e.close()); err != nil {
		t.Fatal(err)
	}
	if all, err := j.list(); err != nil || len(all) != 1 || !all[0].over() {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestJournalForgets the oldest that have ended, and no other.
func TestJournalForgets(t *testing.T) {
	b := newBench(t)
	for range keptEntries + 5 {
		b.must(b.put("vm", pattern(100, 1), 100))
		b.must(os.Remove(b.path("vm")))
	}
	if all, err := (Journal{b.journal}).list(); err != nil || len(all) != keptEntries {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if n := len(b.m.Reports()); n > keptEntries {
		t.Errorf("%d reports", n)
	}
}

// TestClose undoes what is under way.
func TestClose(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	_, err := j.WriteAt(t.Context(), diff(full(1 << 20))[:5000], 0)
	b.must(err)
	b.m.Close()
	if _, err := j.WriteAt(t.Context(), []byte("x"), 5000); err == nil {
		t.Error("a write after the end")
	}
	b.holds("vm", nil)
}

// TestGiveUp: a writer whose context ends learns how much was taken, and can go
// on from there.
func TestGiveUp(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	content := pattern(100, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := j.WriteAt(ctx, content, 0)
	if n == 0 && !errors.Is(err, context.Canceled) {
		t.Fatalf("%d, %v", n, err)
	}
	rest, err := j.WriteAt(t.Context(), content[n:], int64(n))
	if err != nil || n+rest != len(content) {
		t.Fatalf("%d of %d, %v", n+rest, len(content), err)
	}
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	b.holds("vm", content)
}

// TestRestorePoints: snapshots of the repository to a file, all or the last.
func TestRestorePoints(t *testing.T) {
	b := newBench(t)
	one := append(pattern(6<<20, 1), make([]byte, 3<<20)...)
	two := append(bytes.Clone(one[:5<<20]), pattern(1<<20, 5)...)
	points := []Point{
		{Source: memorySource(one), Size: int64(len(one)), Snapshot: "s1", Data: 6 << 20},
		{Source: memorySource(two), Size: int64(len(two)), Snapshot: "s2", Data: 1 << 20,
			Changes: func(_ context.Context, visit func(off, n int64, data bool) error) error {
				return visit(5<<20, 1<<20, true)
			}},
	}
	for _, p := range [][]Point{points, points[:1]} {
		r, err := b.m.NewRestore(image("vm"), p, target.Layout{})
		b.must(err)
		b.must(r.Run(t.Context()))
		if len(p) == 2 {
			b.holds("vm", two)
		} else {
			b.holds("vm", one)
		}
		if got := r.Report(); got.State != StateDone || got.Received != got.Total || got.Kind != KindSnapshot {
			t.Errorf("%+v", got)
		}
		again, err := b.m.NewRestore(image("vm"), p, target.Layout{})
		b.must(err)
		if err := again.Run(t.Context()); !target.HasErrno(err, 17) {
			t.Errorf("again: %v", err)
		}
		b.must(os.Remove(b.path("vm")))
	}
	points[0].Source = brokenSource{memorySource(one)}
	r, err := b.m.NewRestore(image("vm"), points, target.Layout{})
	b.must(err)
	if err := r.Run(t.Context()); err == nil {
		t.Error("a source that can't be read")
	}
	b.holds("vm", nil)
}

type brokenSource struct{ memorySource }

func (brokenSource) ReadAt(context.Context, []byte, int64) (int, error) {
	return 0, errors.New("the backup is damaged")
}
