package chain

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
