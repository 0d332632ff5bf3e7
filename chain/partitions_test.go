package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/parttable"
	"rbdbackupfs/internal/testenv"
)

// TestPartitions: each snapshot has the partitions of its time, and an index that is
// opened again knows them without a look at the backup files.
func TestPartitions(t *testing.T) {
	testenv.Need(t, "partitions")
	t.Parallel()
	dir, indexDir := t.TempDir(), t.TempDir()
	w := newDiskWriter(t, dir)
	w.history()
	for name, want := range map[string]int{"0-empty": 0, "2-used": 2, "3-new": 3, "4-grown": 3, "6-same": 4, "7-cut": 4, "8-logical-lost": 2, "9-wiped": 0} {
		table, err := parttable.Read(bytes.NewReader(w.states[name]), int64(len(w.states[name])))
		if err != nil || len(table.Partitions) != want {
			t.Errorf("%s has %+v, %v; it should have %d", name, table, err, want)
		}
	}
	t.Run("fresh", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
	t.Run("memory", func(t *testing.T) { w.check(t, run(t, dir, index.Memory)) })
	t.Run("step by step", func(t *testing.T) { w.stepwise(t) })
	w.overwrite()
	t.Run("again", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
}

// stepwise gives a library one backup file after the other, each with a new session.
func (w *diskWriter) stepwise(t *testing.T) {
	dir, indexDir := t.TempDir(), t.TempDir()
	part := &diskWriter{t: t, folder: filepath.Join(dir, "vm"), states: map[string][]byte{}}
	if err := os.Mkdir(part.folder, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(w.folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Link(filepath.Join(w.folder, f.Name()), filepath.Join(part.folder, f.Name())); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(f.Name(), filepath.Ext(f.Name()))
		part.states[name] = w.states[name]
		t.Run(name, func(t *testing.T) { part.check(t, run(t, dir, indexDir)) })
	}
}

// TestPartitionsOfOldIndex: an index that was made before there were partitions has
// them found once.
func TestPartitionsOfOldIndex(t *testing.T) {
	testenv.Need(t, "partitions")
	t.Parallel()
	for kind, note := range map[string]string{"old": "", "other version": "\xffx"} {
		t.Run(kind, func(t *testing.T) {
			dir, indexDir := t.TempDir(), t.TempDir()
			w := newDiskWriter(t, dir)
			w.history()
			t.Run("made", func(t *testing.T) {
				l := run(t, dir, indexDir)
				w.check(t, l)
				img, err := l.Image(t.Context(), "vm")
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range img.Snapshots {
					if err := l.ix.SetNodeNote(s.node, note); err != nil {
						t.Fatal(err)
					}
				}
			})
			t.Run("found", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
			w.overwrite()
			t.Run("known", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
		})
	}
}

// TestDamagedTable: it costs the partitions and nothing else, and isn't looked at again.
func TestDamagedTable(t *testing.T) {
	testenv.Need(t, "partitions")
	t.Parallel()
	dir, indexDir := t.TempDir(), t.TempDir()
	w := newDiskWriter(t, dir)
	w.partition("label: gpt\nsize=1M\n")
	w.export("1-whole")
	w.disk[512+40] ^= 1
	w.export("2-backup")
	w.disk[len(w.disk)-512+40] ^= 1
	w.export("3-damaged")
	copy(w.disk[7<<20:], "a file")
	w.export("4-still")
	t.Run("fresh", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
	w.overwrite()
	t.Run("again", func(t *testing.T) { w.check(t, run(t, dir, indexDir)) })
	for name, want := range map[string]error{"2-backup": nil, "3-damaged": parttable.ErrDamaged} {
		if _, err := parttable.Read(bytes.NewReader(w.states[name]), int64(len(w.disk))); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnreadableTable: a read error is no reason to withhold a snapshot, and isn't kept.
func TestUnreadableTable(t *testing.T) {
	testenv.Need(t, "partitions")
	dir := t.TempDir()
	w := newDiskWriter(t, dir)
	w.partition("label: gpt\nsize=1M\n")
	w.export("1")
	l := run(t, dir, index.Memory)
	img, err := l.Image(t.Context(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	node := img.Latest.node
	there := *l.source(node.Number)
	l.setSource(node.Number, source{path: "vm/gone.raw", pin: there.pin})
	if err := l.ix.SetNodeNote(node, ""); err != nil {
		t.Fatal(err)
	}
	find := func(ctx context.Context) ([]parttable.Partition, error) {
		n := builtNode{Node: node}
		err := l.findPartitions(ctx, &n, builtNode{})
		return n.partitions, err
	}
	if list, err := find(t.Context()); err != nil || list != nil || l.ix.NodeNote(node) != "" {
		t.Errorf("unreadable: %v, %v, note %q", list, err, l.ix.NodeNote(node))
	}
	l.setSource(node.Number, there)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := find(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
	if list, err := find(t.Context()); err != nil || len(list) != 1 || l.ix.NodeNote(node) == "" {
		t.Errorf("readable again: %v, %v", list, err)
	}
}

// TestTinySteps: a step that leaves the table alone reads nothing for it.
func TestTinySteps(t *testing.T) {
	testenv.Need(t, "partitions")
	t.Parallel()
	dir := t.TempDir()
	w := newDiskWriter(t, dir)
	w.partition("label: dos\n,2M\n,,5\n,1M\n,1M\n")
	w.export("000")
	for i := range 12 {
		w.disk[7<<20+i]++
		w.export(fmt.Sprintf("%03d", i+1))
	}
	l := run(t, dir, index.Memory)
	w.check(t, l)
	img, err := l.Image(t.Context(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	if n := l.Status().Counters.Lookups; n > 8 {
		t.Errorf("%d lookups in the index: about one for each step", n)
	}
	for _, s := range img.Snapshots[1:] {
		if note := l.ix.NodeNote(s.node); note != string([]byte{partsVersion, partsSame}) {
			t.Errorf("%s: note %q", s.Name, note)
		}
		if &s.Partitions[0] != &img.Snapshots[0].Partitions[0] {
			t.Errorf("%s has a list of its own", s.Name)
		}
	}
}

// TestWatchedBuild: what touches an area and what doesn't.
func TestWatchedBuild(t *testing.T) {
	ix, err := index.Open(index.Memory, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ix.Close() }()
	for _, tt := range []struct {
		off, length int64
		want        bool
	}{
		{0, 100, false}, {0, 101, true}, {100, 1, true}, {199, 1, true}, {200, 100, false}, {200, 101, true}, {0, 1000, true}, {310, 690, false},
	} {
		b, err := ix.Begin(index.NodeID{1}, nil, 1000)
		if err != nil {
			t.Fatal(err)
		}
		w := &watchedBuild{Build: b, areas: []area{{100, 200}, {300, 310}}}
		if err := w.Add(index.Extent{Off: tt.off, Len: tt.length, Data: true}); err != nil || w.touched != tt.want {
			t.Errorf("[%d,+%d): %v, %v", tt.off, tt.length, w.touched, err)
		}
		b.Abort()
	}
}

// TestNoPanic: a panic is an error with its place.
func TestNoPanic(t *testing.T) {
	err := noPanic(func() error {
		return fmt.Errorf("%d", []byte(t.Name())[len(t.Name())])
	})
	var p *panicError
	if !errors.As(err, &p) || !strings.Contains(p.stack, "TestNoPanic") || !strings.Contains(err.Error(), "out of range") {
		t.Error(err)
	}
	if err := noPanic(func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// FuzzNote: any note is understood or isn't.
func FuzzNote(f *testing.F) {
	f.Add("\x01t[{\"number\":1}]")
	f.Add("\x01=")
	f.Fuzz(func(t *testing.T, note string) {
		parent := []parttable.Partition{{Number: 7}}
		list, ok := decodeParts(note, parent)
		if !ok {
			return
		}
		again, err := encodeParts(list, parent)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decodeParts(again, parent); !ok || !slices.Equal(got, list) {
			t.Errorf("%q: %v, %q: %v", note, list, again, got)
		}
	})
}
