package chain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

// run opens a library over dir and waits until everything is indexed.
func run(t *testing.T, dir, indexDir string) *Library {
	t.Helper()
	r, err := repo.Open(dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ix, err := index.Open(indexDir, index.Options{Repo: r.Root()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Options{Repo: r, Index: ix, TrustNames: true, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := errors.Join(l.Close(), ix.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-l.Idle():
	case <-time.After(time.Minute):
		t.Fatalf("not idle after a minute: %+v", l.Status())
	}
	return l
}

// A chainWriter writes a random chain of exports, and keeps the bytes that
// each snapshot must have: the reference is FORMATS' reader, applied to a []byte.
type chainWriter struct {
	t      *testing.T
	rng    *rand.Rand
	folder string
	states map[string][]byte
	names  []string
}

func (w *chainWriter) diff(from, to string) {
	image := bytes.Clone(w.states[from])
	size := int64(w.rng.IntN(300_000))
	if from != "" && w.rng.IntN(3) > 0 {
		size = int64(len(image))
	}
	if size <= int64(len(image)) {
		image = image[:size]
	} else {
		image = append(image, make([]byte, size-int64(len(image)))...)
	}
	var out bytes.Buffer
	d, err := rbddiff.NewWriter(&out, rbddiff.DiffV1)
	records := []rbddiff.Record{{Kind: rbddiff.DiffStart, Count: 1}}
	if from != "" {
		records = append(records, rbddiff.Record{Kind: rbddiff.From, Name: from})
	}
	records = append(records, rbddiff.Record{Kind: rbddiff.To, Name: to}, rbddiff.Record{Kind: rbddiff.Size, Size: size})
	for _, rec := range records {
		err = errors.Join(err, d.WriteRecord(rec))
	}
	for range w.rng.IntN(90) {
		if size == 0 {
			break
		}
		off := w.rng.Int64N(size)
		length := w.rng.Int64N(min(size-off, 6_000) + 1)
		rec := rbddiff.Record{Kind: rbddiff.Zero, Offset: off, Length: length}
		data := make([]byte, length)
		if w.rng.IntN(3) > 0 {
			rec.Kind = rbddiff.Data
			for i := range data {
				data[i] = byte(w.rng.Uint32())
			}
		}
		copy(image[off:], data)
		err = errors.Join(err, d.WriteRecord(rec))
		if rec.Kind == rbddiff.Data {
			_, werr := d.Write(data)
			err = errors.Join(err, werr)
		}
	}
	err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.End}), d.Close())
	if err != nil {
		w.t.Fatal(err)
	}
	w.file(cmp.Or(from, "full")+".."+to+".diff", out.Bytes())
	w.states[to] = image
	w.names = append(w.names, to)
}

func (w *chainWriter) file(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(w.folder, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestRandomChains: chains of raw and diff exports with forks, resizes,
// overlaps and records in any order read as the model says, at any offset.
func TestRandomChains(t *testing.T) {
	dir := t.TempDir()
	images := map[string]*chainWriter{}
	for seed := range uint64(60) {
		name := fmt.Sprintf("pool/vm%d", seed)
		w := &chainWriter{
			t: t, rng: rand.New(rand.NewPCG(seed, 1)), folder: filepath.Join(dir, name), states: map[string][]byte{},
		}
		if err := os.MkdirAll(w.folder, 0o700); err != nil {
			t.Fatal(err)
		}
		images[name] = w
		if w.rng.IntN(3) == 0 {
			raw := make([]byte, w.rng.IntN(200_000))
			for i := range raw {
				raw[i] = byte(w.rng.Uint32() * uint32(i>>14&1))
			}
			w.file("s0.raw", raw)
			w.states["s0"] = raw
			w.names = append(w.names, "s0")
		} else {
			w.diff("", "s0")
		}
		for i := range w.rng.IntN(12) {
			w.diff(w.names[max(0, len(w.names)-1-w.rng.IntN(3)*w.rng.IntN(4))], fmt.Sprintf("s%d", i+1))
		}
	}
	indexDir := t.TempDir()
	t.Run("fresh", func(t *testing.T) { compareAll(t, run(t, dir, indexDir), images) })
	t.Run("again", func(t *testing.T) { compareAll(t, run(t, dir, indexDir), images) })
	t.Run("memory", func(t *testing.T) { compareAll(t, run(t, dir, index.Memory), images) })
}

func compareAll(t *testing.T, l *Library, images map[string]*chainWriter) {
	t.Helper()
	for name, w := range images {
		img, err := l.Image(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Problems) > 0 || len(img.Snapshots) != len(w.names) {
			t.Fatalf("%s: %d of %d snapshots, problems %v", name, len(img.Snapshots), len(w.names), img.Problems)
		}
		for _, s := range img.Snapshots {
			compareView(t, l, s, w.states[s.Name], w.rng)
		}
	}
	if n := l.Status().Counters.ReadErrors; n != 0 {
		t.Errorf("%d reads ended in errors", n)
	}
}

func compareView(t *testing.T, l *Library, s *Snapshot, want []byte, rng *rand.Rand) {
	t.Helper()
	v, err := l.OpenView(s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Size != int64(len(want)) {
		t.Fatalf("%s@%s: size %d, want %d", s.Image, s.Label(), s.Size, len(want))
	}
	got := make([]byte, len(want)+10)
	n, err := v.ReadAt(t.Context(), got, 0)
	if !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want) {
		t.Fatalf("%s@%s: %d bytes, %v, or other bytes", s.Image, s.Label(), n, err)
	}
	for range 10 {
		off, length := rng.IntN(len(want)+10), rng.IntN(5000)
		n, err := v.ReadAt(t.Context(), got[:min(length, len(got))], int64(off))
		end := min(off+length, len(want))
		if off >= len(want) {
			end = off
		}
		if (err != nil && !errors.Is(err, io.EOF)) || n != end-off || !bytes.Equal(got[:n], want[min(off, len(want)):min(end, len(want))]) {
			t.Fatalf("%s@%s: read %d at %d: %d, %v", s.Image, s.Label(), length, off, n, err)
		}
	}
	allocated, at := int64(0), int64(0)
	for {
		data, err := v.NextData(t.Context(), at)
		if errors.Is(err, ErrNoData) {
			data = s.Size
		} else if err != nil {
			t.Fatal(err)
		}
		if bytes.Trim(want[at:data], "\x00") != nil && len(bytes.Trim(want[at:data], "\x00")) > 0 {
			t.Fatalf("%s@%s: data in the hole [%d,%d)", s.Image, s.Label(), at, data)
		}
		if data == s.Size {
			break
		}
		if at, err = v.NextHole(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		allocated += at - data
		if at == s.Size {
			break
		}
	}
	if allocated != s.Allocated {
		t.Fatalf("%s@%s: allocated %d, found %d", s.Image, s.Label(), s.Allocated, allocated)
	}
}
