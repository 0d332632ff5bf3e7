package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/parttable"
	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/rbddiff"
)

// A diskWriter writes exports of a disk that sfdisk partitions, and keeps what the
// disk was at each snapshot.
type diskWriter struct {
	t      *testing.T
	folder string
	disk   []byte
	states map[string][]byte
	last   string
}

func newDiskWriter(t *testing.T, dir string) *diskWriter {
	t.Helper()
	folder := filepath.Join(dir, "vm")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	return &diskWriter{t: t, folder: folder, disk: make([]byte, 8<<20), states: map[string][]byte{}}
}

// partition has sfdisk partition the disk anew.
func (w *diskWriter) partition(script string) {
	w.t.Helper()
	program, err := testenv.Program("sfdisk")
	if err != nil {
		w.t.Fatal(err)
	}
	name := filepath.Join(w.t.TempDir(), "disk")
	if err := os.WriteFile(name, w.disk, 0o600); err != nil {
		w.t.Fatal(err)
	}
	c := exec.CommandContext(w.t.Context(), program, "-q", "--wipe", "always", name)
	c.Stdin = strings.NewReader(script)
	if out, err := c.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	if w.disk, err = os.ReadFile(name); err != nil {
		w.t.Fatal(err)
	}
}

// export writes the disk as a raw export, or what is new since the last one.
func (w *diskWriter) export(name string) {
	w.t.Helper()
	file, data := name+".raw", w.disk
	if w.last != "" {
		file, data = name+".diff", w.diff(name)
	}
	if err := os.WriteFile(filepath.Join(w.folder, file), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.states[name], w.last = bytes.Clone(w.disk), name
}

func (w *diskWriter) diff(name string) []byte {
	w.t.Helper()
	var out bytes.Buffer
	d, err := rbddiff.NewWriter(&out, rbddiff.DiffV1)
	for _, rec := range []rbddiff.Record{
		{Kind: rbddiff.DiffStart, Count: 1}, {Kind: rbddiff.From, Name: w.last}, {Kind: rbddiff.To, Name: name},
		{Kind: rbddiff.Size, Size: int64(len(w.disk))},
	} {
		err = errors.Join(err, d.WriteRecord(rec))
	}
	const block, many = 512, 128
	before := make([]byte, len(w.disk))
	copy(before, w.states[w.last])
	for at := 0; at < len(w.disk); at += block {
		if at%(many*block) == 0 && bytes.Equal(w.disk[at:at+many*block], before[at:at+many*block]) {
			at += (many - 1) * block
			continue
		}
		if now := w.disk[at : at+block]; !bytes.Equal(now, before[at:at+block]) {
			rec := rbddiff.Record{Kind: rbddiff.Data, Offset: int64(at), Length: block}
			if bytes.Equal(now, make([]byte, block)) {
				rec.Kind = rbddiff.Zero
			}
			err = errors.Join(err, d.WriteRecord(rec))
			if rec.Kind == rbddiff.Data {
				_, werr := d.Write(now)
				err = errors.Join(err, werr)
			}
		}
	}
	if err = errors.Join(err, d.WriteRecord(rbddiff.Record{Kind: rbddiff.End}), d.Close()); err != nil {
		w.t.Fatal(err)
	}
	return out.Bytes()
}

// history writes a disk that is partitioned, used, partitioned otherwise, and resized.
func (w *diskWriter) history() {
	w.export("0-empty")
	w.partition("label: gpt\nsize=1M,name=boot\nsize=4M\n")
	w.export("1-gpt")
	copy(w.disk[7<<20:], "a file")
	w.export("2-used")
	w.partition("label: gpt\nsize=1M,name=boot\nsize=2M\nsize=2M,name=home\n")
	w.export("3-new")
	w.disk = append(w.disk, make([]byte, 2<<20)...)
	w.export("4-grown")
	w.partition("label: dos\n,2M\n,,5\n,1M\n,\n")
	w.export("5-mbr")
	w.disk[600] ^= 1 // between the MBR and the first partition
	w.export("6-same")
	w.disk = w.disk[:6<<20+512<<10]
	w.export("7-cut")
	at := slices.Index(w.disk[3<<20:], 0xaa) + 3<<20
	w.disk[at] = 0 // the signature of an EBR
	w.export("8-logical-lost")
	clear(w.disk[:512])
	w.export("9-wiped")
}

// overwrite puts another partition table into all backup files, over and over, which
// nobody sees by inode, size and time.
func (w *diskWriter) overwrite() {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.folder, "*"))
	if err != nil || len(files) == 0 {
		w.t.Fatal(files, err)
	}
	sector := make([]byte, 512)
	copy(sector[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0})
	copy(sector[510:], []byte{0x55, 0xaa})
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			w.t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		_, err = f.Write(bytes.Repeat(sector, int(info.Size()/512+1))[:info.Size()])
		if err := errors.Join(err, f.Close(), os.Chtimes(name, info.ModTime(), info.ModTime())); err != nil {
			w.t.Fatal(err)
		}
	}
}

// check compares the partitions of all snapshots with those that are on the disks.
func (w *diskWriter) check(t *testing.T, l *Library) {
	t.Helper()
	img, err := l.Image(t.Context(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Problems) > 0 || len(img.Snapshots) != len(w.states) {
		t.Fatalf("%d of %d snapshots, problems %v", len(img.Snapshots), len(w.states), img.Problems)
	}
	for _, s := range img.Snapshots {
		disk := w.states[s.Name]
		want, err := parttable.Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil && !errors.Is(err, parttable.ErrDamaged) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Partitions, s.Partitions); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.Name, diff)
		}
	}
	if n := l.Status().Counters.Reads; n != 0 {
		t.Errorf("%d reads are counted", n)
	}
}

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
		var list []int
		return fmt.Errorf("%d", list[3])
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
