package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// TestRawModel: any order of writes, truncates and flushes gives what a file
// would hold.
func TestRawModel(t *testing.T) {
	b := newBench(t)
	rapid.Check(t, func(rt *rapid.T) {
		_ = os.Remove(b.path("vm"))
		j := b.start("vm")
		var model []byte
		extend := func(end int) {
			if end > len(model) {
				model = append(model, make([]byte, end-len(model))...)
			}
		}
		steps := rapid.IntRange(1, 30).Draw(rt, "steps")
		for i := range steps {
			off := rapid.IntRange(0, 9<<20).Draw(rt, "off")
			switch kind := rapid.IntRange(0, 9).Draw(rt, "kind"); {
			case kind < 7 || i == 0:
				p := chunkOf(rt)
				if i == 0 {
					off, p = 0, pattern(20, 1) // what it is shows in the first bytes
				}
				extend(off + len(p))
				copy(model[off:], p)
				if n, err := j.WriteAt(context.Background(), p, int64(off)); err != nil || n != len(p) {
					rt.Fatalf("write: %d, %v", n, err)
				}
			case kind == 7:
				extend(off)
				model = model[:off]
				model = model[:len(model):len(model)]
				if err := j.Truncate(context.Background(), int64(off)); err != nil {
					rt.Fatal(err)
				}
			default:
				if err := j.Flush(context.Background(), false); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := j.Flush(context.Background(), false); err != nil {
			rt.Fatal(err)
		}
		j.Release()
		<-j.Done()
		got, err := os.ReadFile(b.path("vm"))
		if err != nil || !bytes.Equal(got, model) {
			rt.Fatalf("%d bytes differ from %d, %v", len(got), len(model), err)
		}
	})
}

// chunkOf is data with runs of zeros in it.
func chunkOf(rt *rapid.T) []byte {
	p := pattern(rapid.IntRange(1, 200_000).Draw(rt, "len"), byte(rapid.IntRange(0, 255).Draw(rt, "seed")))
	if rapid.Bool().Draw(rt, "zeros") {
		from := rapid.IntRange(0, len(p)-1).Draw(rt, "from")
		clear(p[from : from+(len(p)-from)/2])
	}
	return p
}

// TestDiffModel: random diffs, overlapping and in any order, one by one and as a
// container, through pipes of any size.
func TestDiffModel(t *testing.T) {
	b := newBench(t)
	rapid.Check(t, func(rt *rapid.T) {
		_ = os.Remove(b.path("vm"))
		_ = os.Remove(b.path("all"))
		var model []byte
		var steps []stepSpec
		for i := range rapid.IntRange(1, 5).Draw(rt, "steps") {
			s := stepSpec{to: fmt.Sprint("s", i+1), size: int64(rapid.IntRange(1, 6<<20).Draw(rt, "size"))}
			if i > 0 {
				s.from = fmt.Sprint("s", i)
			}
			for range rapid.IntRange(0, 12).Draw(rt, "extents") {
				e := extentSpec{off: rapid.Int64Range(0, s.size-1).Draw(rt, "off")}
				if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
					e.zeros = rapid.Int64Range(1, s.size-e.off).Draw(rt, "zeros")
				} else {
					e.data = chunkOf(rt)
					e.data = e.data[:min(int64(len(e.data)), s.size-e.off)]
				}
				s.extents = append(s.extents, e)
			}
			steps = append(steps, s)
			model = s.apply(model)
			if err := b.put("vm", diff(s), rapid.IntRange(1000, 3<<20).Draw(rt, "piece")); err != nil {
				rt.Fatal(err)
			}
			b.holds("vm", model)
		}
		head := stepSpec{from: steps[len(steps)-1].to, size: int64(len(model))}
		if err := b.put("all", encode(rbddiff.Container, append(steps, head)...), 70_000); err != nil {
			rt.Fatal(err)
		}
		b.holds("all", model)
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// slowImage is an image in memory whose writes end in any order.
type slowImage struct {
	target.Image // nil: what isn't below must not be called
	mu           sync.Mutex
	bytes        []byte
	under        []span
	clash        atomic.Bool
	most         int
}

func (g *slowImage) Hints() target.Hints {
	return target.Hints{Chunk: 1 << 20, Parallel: 8, ZeroRun: 8192}
}
func (g *slowImage) Size() int64 { return int64(len(g.bytes)) }

func (g *slowImage) WriteAt(ctx context.Context, p []byte, off int64) error {
	where := span{off, off + int64(len(p))}
	g.mu.Lock()
	for _, u := range g.under {
		if u.overlaps(where) {
			g.clash.Store(true)
		}
	}
	g.under = append(g.under, where)
	g.most = max(g.most, len(g.under))
	g.mu.Unlock()
	timer := time.NewTimer(time.Duration(off%7) * 100 * time.Microsecond)
	defer timer.Stop()
	<-timer.C
	g.mu.Lock()
	defer g.mu.Unlock()
	copy(g.bytes[off:], p)
	for i, u := range g.under {
		if u == where {
			g.under = append(g.under[:i], g.under[i+1:]...)
			break
		}
	}
	return ctx.Err()
}

func (g *slowImage) Zero(ctx context.Context, off, n int64) error {
	return g.WriteAt(ctx, make([]byte, n), off)
}

// TestSinkOrder: writes that overlap come in their order, others at once.
func TestSinkOrder(t *testing.T) {
	img := &slowImage{bytes: pattern(8<<20, 1)}
	buffers := NewBuffers(5)
	s := newSink(t.Context(), img, buffers, &tally{})
	model := bytes.Clone(img.bytes)
	for i := range 400 {
		off := int64(i*7919*4096) % (7 << 20)
		n := min(int64(1000+i*977%300_000), s.piece(off, 1<<20))
		if i%5 == 0 {
			clear(model[off : off+n])
			if err := s.zero(off, n); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := s.buffer(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		copy(b.room[:n], pattern(int(n), byte(i)))
		copy(model[off:], b.room[:n])
		if err := s.write(off, b, n, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
	s.abandon()
	if img.clash.Load() || !bytes.Equal(img.bytes, model) {
		t.Errorf("clash %v, or bytes differ", img.clash.Load())
	}
	if img.most < 3 {
		t.Errorf("at most %d writes were under way at once", img.most)
	}
	if len(buffers.shared) != 5 {
		t.Errorf("%d buffers came back", len(buffers.shared))
	}
}

// A gatedImage has each write wait for what its offset was given.
type gatedImage struct {
	target.Image
	gates map[int64]chan error
}

func (g gatedImage) Hints() target.Hints { return target.Hints{Chunk: 4096, Parallel: 4} }

func (g gatedImage) WriteAt(_ context.Context, _ []byte, off int64) error { return <-g.gates[off] }

// TestSinkFails: once a write has failed nobody waits for the others, except to
// end the sink.
func TestSinkFails(t *testing.T) {
	waits := map[string]func(s *sink) error{
		"drain":  (*sink).drain,
		"resize": func(s *sink) error { return s.resize(1) },
		"enter":  func(s *sink) error { return s.zero(0, 1) },
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				img := gatedImage{gates: map[int64]chan error{0: make(chan error), 4096: make(chan error)}}
				buffers := NewBuffers(2)
				s := newSink(t.Context(), img, buffers, &tally{})
				for off := range img.gates {
					b, err := s.buffer(s.ctx)
					if err != nil {
						t.Fatal(err)
					}
					copy(b.room[:4096], pattern(4096, 1))
					if err := s.write(off, b, 4096, nil); err != nil {
						t.Fatal(err)
					}
				}
				got := make(chan error, 1)
				go func() { got <- wait(s) }()
				synctest.Wait() // it waits for both
				failure := errors.New("no answer")
				img.gates[4096] <- failure
				synctest.Wait()
				select {
				case err := <-got:
					if !errors.Is(err, failure) {
						t.Errorf("got %v", err)
					}
				default:
					t.Error("still waits for the other write")
				}
				img.gates[0] <- nil
				s.abandon()
				if len(buffers.shared) != 2 {
					t.Errorf("%d of 2 buffers came back", len(buffers.shared))
				}
			})
		})
	}
}

// TestStore: runs of zeros are found on the image's blocks, wherever a write
// begins.
func TestStore(t *testing.T) {
	img := &slowImage{bytes: pattern(1<<20, 1)}
	s := newSink(t.Context(), img, NewBuffers(1), &tally{})
	defer s.abandon()
	p := pattern(100_000, 2)
	clear(p[3000:20_000]) // 16 KiB of blocks in it
	clear(p[40_000:44_000])
	clear(p[90_000:])
	if err := s.store(p, 1234, false); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(img.bytes[1234:1234+len(p)], p) {
		t.Error("bytes differ")
	}
	if got := s.tally.zeros.Load(); got != 12_288 || s.tally.data.Load()+got != int64(len(p)) {
		t.Errorf("%d zeros and %d data of %d", got, s.tally.data.Load(), len(p))
	}
}
