package packed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// stamp fills a buffer with what tells whose it is.
func stamp(p []byte, key chunkKey) {
	for i := 0; i+8 <= len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(key.chunk))
	}
}

// TestMemoryBuffers: a buffer isn't used again while somebody has it.
func TestMemoryBuffers(t *testing.T) {
	const limit, size = 4, 4096
	m := newMemory(limit)
	var group sync.WaitGroup
	for g := range uint64(8) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			want := make([]byte, size)
			for range 2000 {
				key := chunkKey{"id", rng.Int64N(3 * limit)}
				c := m.get(key)
				if c == nil {
					c = m.take(key, size)
					stamp(c.data, key)
					if rng.IntN(4) > 0 {
						m.keep(c)
					}
				}
				stamp(want, key)
				if !bytes.Equal(c.data, want) {
					t.Errorf("chunk %d has other bytes", key.chunk)
				}
				m.release(c)
			}
		})
	}
	group.Wait()
	if len(m.chunks) != limit || m.order.Len() != limit || len(m.free) == 0 || len(m.free) > parallelChunks {
		t.Errorf("%d chunks are kept, %d are in order, %d buffers are free", len(m.chunks), m.order.Len(), len(m.free))
	}
	// No two have one buffer.
	seen := map[*byte]bool{}
	for _, c := range m.chunks {
		seen[&c.data[0]] = true
	}
	for _, b := range m.free {
		seen[&b[0]] = true
	}
	if len(seen) != len(m.chunks)+len(m.free) {
		t.Errorf("%d buffers for %d chunks and %d free ones", len(seen), len(m.chunks), len(m.free))
	}
}

// TestManyReaders: whoever reads at the same time gets the right bytes.
func TestManyReaders(t *testing.T) {
	data := mixed(24 << 20)
	for codec, args := range map[Codec][]string{
		Gzip: {"gzip", "-1"}, Zstd: {"zstd", "-1"}, LZ4: {"lz4", "-c", "-B4"},
	} {
		file := tool(t, data, args...)
		c := testCache(t, t.TempDir(), 8<<20)
		c.memory = newMemory(4)
		m := mapOf(t, c, file, codec, false)
		var group sync.WaitGroup
		for g := range uint64(4) {
			group.Go(func() {
				rng := rand.New(rand.NewPCG(g, 2))
				p := make([]byte, 3<<19)
				for range 12 {
					off := rng.IntN(len(data) - len(p))
					if err := c.ReadAt(t.Context(), bytes.NewReader(file), int64(len(file)), m, p, int64(off)); err != nil {
						t.Error(err)
					} else if !bytes.Equal(p, data[off:off+len(p)]) {
						t.Errorf("%s: other bytes at %d", codec, off)
					}
				}
			})
		}
		group.Wait()
	}
}

// TestTurn: of those that take much memory one goes on, and who takes little doesn't
// wait.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := make(chan struct{}, 1)
		first := turn{ctx: t.Context(), of: of}
		ended, end := context.WithCancel(t.Context())
		second := turn{ctx: ended, of: of}
		if err := errors.Join(first.take(heavyMemory+1), first.take(heavyMemory+1), second.take(heavyMemory)); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- second.take(heavyMemory + 1) }()
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("two have the turn: %v", err)
		default:
		}
		end()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		second.end()
		first.end()
		third := turn{ctx: t.Context(), of: of}
		if err := third.take(heavyMemory + 1); err != nil {
			t.Error(err)
		}
		third.end()
	})
}

// TestHeavy: what a file takes is known before it is taken.
func TestHeavy(t *testing.T) {
	data := mixed(1 << 20)
	for _, test := range []struct {
		codec Codec
		args  []string
	}{
		{Zstd, []string{"zstd", "--long=27"}}, // without a size in the header, of a pipe
		{XZ, []string{"xz", "-9"}},
	} {
		file := tool(t, data, test.args...)
		told := errors.New("too much")
		s, err := newStream(test.codec, bytes.NewReader(file), int64(len(file)), place{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.room = func(n int64) error {
			if n > heavyMemory && n <= 2*maxWindow {
				return told
			}
			return nil
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, told) {
			t.Errorf("%s: %v", test.codec, err)
		}
		s.close()
	}
}
