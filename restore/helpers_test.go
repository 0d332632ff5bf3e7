package restore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// A bench is a Manager over a folder, and what is in it.
type bench struct {
	t       testing.TB
	dir     string
	journal string
	m       *Manager
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "images"), journal: filepath.Join(t.TempDir(), "journal")}
	b.open(Options{})
	return b
}

// open makes the Manager, again after a crash.
func (b *bench) open(o Options) {
	b.t.Helper()
	folder, err := OpenFolder(b.dir)
	b.must(err)
	o.Target, o.Journal, o.Buffers = folder, Journal{b.journal}, NewBuffers(2)
	b.m, err = New(o)
	b.must(err)
	m := b.m
	b.t.Cleanup(func() {
		m.Close()
		if n := len(m.buffers.shared); n != 2 {
			b.t.Errorf("%d of 2 buffers came back", n)
		}
	})
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func image(name string) target.Name { return target.Name{Pool: "rbd", Image: name} }

func (b *bench) path(name string) string { return filepath.Join(b.dir, "rbd", name+".img") }

func (b *bench) start(name string) *Job {
	b.t.Helper()
	j, err := b.m.Start(b.t.Context(), image(name))
	b.must(err)
	return j
}

// put writes a file as cp does, in pieces, and returns the first error.
func (b *bench) put(name string, content []byte, piece int) error {
	b.t.Helper()
	j := b.start(name)
	defer func() {
		j.Release()
		<-j.Done()
	}()
	for off := 0; off < len(content); off += piece {
		p := content[off:min(off+piece, len(content))]
		if n, err := j.WriteAt(b.t.Context(), p, int64(off)); err != nil || n != len(p) {
			return err
		}
	}
	return j.Flush(b.t.Context(), false)
}

// wants fails the test where an error hasn't that errno.
func (b *bench) wants(err error, errno syscall.Errno, words string) {
	b.t.Helper()
	if got := target.ErrnoOf(err); got != errno || err != nil && !strings.Contains(err.Error(), words) {
		b.t.Errorf("%v (errno %v), want %v with %q", err, got, errno, words)
	}
}

// holds compares an image with what it should be; nil for none. Nothing else may
// be in its folder but other images.
func (b *bench) holds(name string, want []byte) {
	b.t.Helper()
	got, err := os.ReadFile(b.path(name))
	switch {
	case want == nil && !os.IsNotExist(err):
		b.t.Errorf("%s is there, %v", name, err)
	case want != nil && (err != nil || !bytes.Equal(got, want)):
		b.t.Errorf("%s: %d bytes differ from the %d wanted ones, %v", name, len(got), len(want), err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dir, "rbd", ".*")); len(left) > 0 {
		b.t.Errorf("left behind: %q", left)
	}
}

func (b *bench) last() Report {
	b.t.Helper()
	all := b.m.Reports()
	if len(all) == 0 {
		b.t.Fatal("no reports")
	}
	return all[len(all)-1]
}

// A stepSpec is one diff to encode.
type stepSpec struct {
	from, to string
	size     int64 // below 0: none
	extents  []extentSpec
}

type extentSpec struct {
	off   int64
	data  []byte
	zeros int64
}

func (e extentSpec) end() int64 { return e.off + int64(len(e.data)) + e.zeros }

func (s stepSpec) records(index, count int) []rbddiff.Record {
	list := []rbddiff.Record{{Kind: rbddiff.DiffStart, Index: index, Count: int64(count)}}
	if s.from != "" {
		list = append(list, rbddiff.Record{Kind: rbddiff.From, Name: s.from})
	}
	if s.to != "" {
		list = append(list, rbddiff.Record{Kind: rbddiff.To, Name: s.to})
	}
	if s.size >= 0 {
		list = append(list, rbddiff.Record{Kind: rbddiff.Size, Size: s.size})
	}
	for _, e := range s.extents {
		kind := rbddiff.Data
		if e.data == nil {
			kind = rbddiff.Zero
		}
		list = append(list, rbddiff.Record{Kind: kind, Offset: e.off, Length: e.end() - e.off})
	}
	return append(list, rbddiff.Record{Kind: rbddiff.End})
}

func encode(format rbddiff.Format, steps ...stepSpec) []byte {
	var out []byte
	if format == rbddiff.Container {
		out = append(out, "rbd image v2\n"...)
		out = rbddiff.AppendRecord(out, format, rbddiff.Record{Kind: rbddiff.HeaderOrder, Number: 22})
		out = rbddiff.AppendRecord(out, format, rbddiff.Record{Kind: rbddiff.HeaderEnd})
	}
	for i, s := range steps {
		next := 0
		for _, rec := range s.records(i, len(steps)) {
			out = rbddiff.AppendRecord(out, format, rec)
			if rec.Kind == rbddiff.Data || rec.Kind == rbddiff.Zero {
				out = append(out, s.extents[next].data...)
				next++
			}
		}
	}
	return out
}

func diff(s stepSpec) []byte { return encode(rbddiff.DiffV1, s) }

// apply is the plainest way to apply a step.
func (s stepSpec) apply(image []byte) []byte {
	if s.size >= 0 {
		out := make([]byte, s.size)
		copy(out, image)
		image = out
	}
	for _, e := range s.extents {
		if e.data == nil {
			clear(image[e.off:e.end()])
		}
		copy(image[e.off:], e.data)
	}
	return image
}

// memorySource is a Source in memory; what is zero for a whole unit is a hole.
type memorySource []byte

func (m memorySource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return copy(p, m[off:]), nil
}

func (m memorySource) next(off int64, hole bool) int64 {
	for ; off < int64(len(m)); off += zeroUnit - off%zeroUnit {
		unit := min(int64(len(m)), off-off%zeroUnit+zeroUnit)
		if (zeroPrefix(m[off:unit], off) == int(unit-off)) == hole {
			return off
		}
	}
	return int64(len(m))
}

func (m memorySource) NextHole(_ context.Context, off int64) (int64, error) {
	return m.next(off, true), nil
}

func (m memorySource) NextData(_ context.Context, off int64) (int64, error) {
	if at := m.next(off, false); at < int64(len(m)) {
		return at, nil
	}
	return 0, errNoData
}
