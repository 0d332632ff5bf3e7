package restore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/target"
)

// A mute is a folder that stops to answer.
type mute struct {
	*Folder
	silent atomic.Bool
	asked  atomic.Int32  // while it was silent
	stuck  chan struct{} // if set, the first write waits for it
	first  atomic.Bool   // that write has come
}

func (m *mute) answer() error {
	if !m.silent.Load() {
		return nil
	}
	m.asked.Add(1)
	return &target.Error{Op: "write", Errno: syscall.EIO, Err: errors.New("no answer"), Silent: true}
}

func (m *mute) Create(ctx context.Context, job *target.Job, size int64, l target.Layout) (target.Image, error) {
	img, err := m.Folder.Create(ctx, job, size, l)
	return &muteImage{img, m}, errors.Join(err, m.answer())
}

func (m *mute) Recover(ctx context.Context, job *target.Job) (bool, error) {
	if err := m.answer(); err != nil {
		return false, err
	}
	return m.Folder.Recover(ctx, job)
}

type muteImage struct {
	target.Image
	m *mute
}

func (g *muteImage) WriteAt(ctx context.Context, p []byte, off int64) error {
	if g.m.stuck != nil && !g.m.first.Swap(true) {
		<-g.m.stuck
	}
	return errors.Join(g.m.answer(), g.Image.WriteAt(ctx, p, off))
}

func (g *muteImage) Abort(ctx context.Context) error {
	return errors.Join(g.m.answer(), g.Image.Abort(ctx))
}

func (b *bench) openMute() *mute {
	b.t.Helper()
	folder, err := OpenFolder(b.dir)
	b.must(err)
	m := &mute{Folder: folder}
	b.m, err = New(Options{Target: m, Journal: Journal{b.journal}, Buffers: NewBuffers(2)})
	b.must(err)
	b.m.pause = time.Millisecond
	b.t.Cleanup(b.m.Close)
	return m
}

// TestSilentTarget: a writer is told at once, and what is left is undone when the
// target answers again, by itself and before the next restore.
func TestSilentTarget(t *testing.T) {
	for _, again := range []bool{false, true} {
		b := newBench(t)
		m := b.openMute()
		j := b.start("vm")
		_, err := j.WriteAt(t.Context(), diff(full(1 << 20))[:6000], 0)
		b.must(err)
		m.silent.Store(true)
		_, err = j.WriteAt(t.Context(), diff(full(1 << 20))[6000:], 6000)
		if err == nil {
			err = j.Flush(t.Context(), false)
		}
		b.wants(err, syscall.EIO, "no answer")
		if n := m.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if again {
			b.m.mu.Lock()
			b.m.pause = time.Hour // the next write has to do it
			b.m.mu.Unlock()
		}
		j.Release()
		<-j.Done()
		if r := b.last(); r.State != StateBroken {
			t.Errorf("%+v", r)
		}
		if again {
			other := b.start("vm")
			_, err := other.WriteAt(t.Context(), pattern(100, 1), 0)
			b.wants(err, syscall.EIO, "can't be undone")
			other.Release()
			<-other.Done()
			m.silent.Store(false)
			b.must(b.put("vm", diff(full(1<<20)), 4000))
			b.holds("vm", full(1<<20).apply(nil))
			b.m.Close()
		} else {
			m.silent.Store(false)
			b.m.wg.Wait()
			b.holds("vm", nil)
		}
		for _, r := range b.m.Reports() {
			if r.State == StateBroken {
				t.Errorf("%+v", r)
			}
		}
	}
}

// TestSilentWhileWriting: what is still under way keeps nobody waiting, and nothing
// is undone before its end.
func TestSilentWhileWriting(t *testing.T) {
	b := newBench(t)
	m := b.openMute()
	m.stuck = make(chan struct{})
	loose := sync.OnceFunc(func() { close(m.stuck) })
	defer loose()
	j := b.start("vm")
	data := pattern(3<<20, 1)
	_, err := j.WriteAt(t.Context(), data[:1000], 0)
	b.must(err)
	m.silent.Store(true)
	told := make(chan error, 1)
	go func() {
		_, err := j.WriteAt(t.Context(), data[1000:], 1000)
		told <- errors.Join(err, j.Flush(t.Context(), false))
	}()
	select {
	case err := <-told:
		b.wants(err, syscall.EIO, "no answer")
	case <-time.After(30 * time.Second):
		t.Fatal("the writer isn't told")
	}
	if !m.first.Load() {
		t.Fatal("no write is under way")
	}
	j.Release()
	<-j.Done()
	m.silent.Store(false)
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.m.recoverLeft(soon, image("vm")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("recovered beside a write: %v", err)
	}
	loose()
	b.m.wg.Wait()
	b.holds("vm", nil)
}

// TestRefusedCommit: what came between is kept, and a recovery doesn't end what
// was undone.
func TestRefusedCommit(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	_, err := j.WriteAt(t.Context(), diff(full(1<<20)), 0)
	b.must(err)
	b.must(b.put("other", pattern(100, 1), 100))
	b.must(place(b.path("other"), b.path("vm"), false))
	b.wants(j.Flush(t.Context(), false), syscall.EEXIST, "")
	j.Release()
	<-j.Done()
	b.holds("vm", pattern(100, 1))
	all, err := (Journal{b.journal}).list()
	b.must(err)
	for _, p := range all {
		if p.Report.State == StateFailed && p.Job.Complete {
			t.Errorf("%+v", p)
		}
	}
}
