package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// base is the bytes of an image.
type base []byte

func (b base) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func random(seed uint64, n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = source.Read(data) // never fails
	return data
}

// identity is that of a test's image.
func identity(b base) Identity {
	return Identity{Name: Name{"vm/disk", "s0"}, ID: "first", Size: int64(len(b))}
}

const noLimit = 1 << 40

func openStore(t testing.TB, folder string, limit int64) *Store {
	t.Helper()
	s, err := Open(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openOverlay(t testing.TB, s *Store, b base) *Overlay {
	t.Helper()
	o, err := s.Open(identity(b))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// kill ends a store as the end of its process does: nothing is synced.
func kill(t testing.TB, s *Store) {
	t.Helper()
	for _, o := range s.overlays {
		if err := o.detach(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, o *Overlay, b base) []byte {
	t.Helper()
	data := make([]byte, len(b))
	if _, err := o.ReadAt(t.Context(), b, data, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

// A disk is the model: an overlay, what it holds, and what it held at the last sync.
type disk struct {
	t       testing.TB
	folder  string
	base    base
	now     []byte
	durable []byte
	s       *Store
	o       *Overlay
}

func newDisk(t testing.TB, folder string, size int) *disk {
	d := &disk{t: t, folder: folder, base: random(1, size)}
	d.now, d.durable = bytes.Clone(d.base), bytes.Clone(d.base)
	d.open()
	return d
}

func (d *disk) open() {
	d.t.Helper()
	d.s = openStore(d.t, d.folder, noLimit)
	d.o = openOverlay(d.t, d.s, d.base)
}

func (d *disk) close() {
	d.t.Helper()
	if err := errors.Join(d.o.Close(), d.s.Close()); err != nil {
		d.t.Fatal(err)
	}
	d.durable = bytes.Clone(d.now)
}

func (d *disk) write(p []byte, off int64) {
	d.t.Helper()
	if n, err := d.o.WriteAt(d.t.Context(), d.base, p, off); n != len(p) || err != nil {
		d.t.Fatalf("WriteAt(%d bytes, %d): %d, %v", len(p), off, n, err)
	}
	copy(d.now[off:], p)
}

func (d *disk) zero(off, n int64) {
	d.t.Helper()
	if err := d.o.Zero(d.t.Context(), d.base, off, n); err != nil {
		d.t.Fatalf("Zero(%d, %d): %v", off, n, err)
	}
	clear(d.now[off : off+n])
}

func (d *disk) sync() {
	d.t.Helper()
	if err := d.o.Sync(); err != nil {
		d.t.Fatal(err)
	}
	d.durable = bytes.Clone(d.now)
}

func (d *disk) check() {
	d.t.Helper()
	if !bytes.Equal(readAll(d.t, d.o, d.base), d.now) {
		d.t.Fatal("it doesn't hold what was written")
	}
}

// survive looks at what is there after a kill: each block is that of the last sync, or
// what was written since, and never a part of both.
func (d *disk) survive() {
	d.t.Helper()
	got := readAll(d.t, d.o, d.base)
	for at := 0; at < len(got); at += blockSize {
		end := min(at+blockSize, len(got))
		if is := got[at:end]; !bytes.Equal(is, d.now[at:end]) && !bytes.Equal(is, d.durable[at:end]) {
			d.t.Fatalf("the block at %d is neither old nor new", at)
		}
	}
	d.now, d.durable = got, bytes.Clone(got)
}

// checkRoom compares what the store says to take with what the file system says.
func (d *disk) checkRoom() {
	d.t.Helper()
	var st unix.Stat_t
	err := unix.Stat(d.o.base+dataExt, &st)
	if errors.Is(err, unix.ENOENT) {
		st.Blocks, err = 0, nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	if used := d.s.Used(); used != d.o.backed.count<<blockShift || st.Blocks*512 < used {
		d.t.Fatalf("%d bytes in use, %d blocks are backed, the file has %d", used, d.o.backed.count, st.Blocks*512)
	}
}

// TestModel compares an overlay with an array, through syncs, remounts and kills.
func TestModel(t *testing.T) {
	top := t.TempDir()
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		folder := filepath.Join(top, fmt.Sprint(round))
		size := rapid.IntRange(1, 40*blockSize).Draw(r, "size")
		d := newDisk(t, folder, size)
		place := func(longest int) (off, n int64) {
			off = rapid.Int64Range(0, int64(size)-1).Draw(r, "off")
			if rapid.Bool().Draw(r, "aligned") {
				off &^= blockSize - 1
			}
			return off, rapid.Int64Range(1, min(int64(longest), int64(size)-off)).Draw(r, "n")
		}
		r.Repeat(map[string]func(*rapid.T){
			"write": func(r *rapid.T) {
				off, n := place(5 * blockSize)
				d.write(random(rapid.Uint64Range(2, 200).Draw(r, "seed"), int(n)), off)
			},
			"zero": func(*rapid.T) { d.zero(place(20 * blockSize)) },
			"sync": func(*rapid.T) { d.sync() },
			"remount": func(*rapid.T) {
				d.close()
				d.open()
			},
			"kill": func(*rapid.T) {
				kill(t, d.s)
				d.open()
				d.survive()
			},
			"": func(*rapid.T) {
				d.check()
				d.checkRoom()
				d.checkLook()
			},
		})
		d.close()
	})
}

// checkLook makes sure that what is told of places is so.
func (d *disk) checkLook() {
	d.t.Helper()
	for at := int64(0); at < d.o.Size(); {
		kind, end := d.o.Look(at)
		if end <= at || end > d.o.Size() {
			d.t.Fatalf("Look(%d) ends at %d", at, end)
		}
		part := d.now[at:end]
		switch kind {
		case OfBase:
			if !bytes.Equal(part, d.base[at:end]) {
				d.t.Fatalf("[%d, %d) was written, and is said to be the base's", at, end)
			}
		case Hole:
			if len(bytes.Trim(part, "\x00")) > 0 {
				d.t.Fatalf("[%d, %d) holds bytes, and is said to be a hole", at, end)
			}
		case Data:
		}
		at = end
	}
}

// TestTornMap cuts the map off at each byte, as a power failure may, and changes each.
func TestTornMap(t *testing.T) {
	d := newDisk(t, t.TempDir(), 64*blockSize)
	d.write(random(2, 3*blockSize), 100)
	d.sync()
	after := []int64{d.o.logged}
	states := [][]byte{bytes.Clone(d.base), bytes.Clone(d.now)}
	d.write(random(3, 2*blockSize), 20*blockSize)
	d.sync()
	after = append(after, d.o.logged)
	states = append(states, bytes.Clone(d.now))
	path := d.o.base + mapExt
	d.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _ := recordLength(whole)
	begin := int64(recordHead + head)
	data, err := os.ReadFile(d.o.base + dataExt)
	if err != nil {
		t.Fatal(err)
	}
	restore := func(b []byte) {
		for file, content := range map[string][]byte{path: b, d.o.base + dataExt: data} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range whole {
		restore(whole[:n])
		s := openStore(t, d.folder, noLimit)
		o, err := s.Open(identity(d.base))
		switch {
		case int64(n) < begin:
			// It doesn't say what it is of, and so nothing of it is used, nor overwritten.
			if list := s.List(); len(list) != 1 || !errors.Is(list[0].Err, ErrDamaged) || !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut at %d: %v, %v", n, list, err)
			}
			if err := errors.Join(s.Drop(identity(d.base).Name), s.Close()); err != nil {
				t.Fatal(err)
			}
			continue
		case err != nil:
			t.Fatalf("cut at %d: %v", n, err)
		default:
			want := states[0]
			for i, end := range after {
				if int64(n) >= end {
					want = states[i+1]
				}
			}
			if !bytes.Equal(readAll(t, o, d.base), want) {
				t.Fatalf("cut at %d: not what was durable then", n)
			}
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range whole {
		changed := bytes.Clone(whole)
		changed[n] ^= 0x10
		restore(changed)
		s := openStore(t, d.folder, noLimit)
		o, err := s.Open(identity(d.base))
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v, %v", n, o, err)
		}
		if err = errors.Join(s.Drop(identity(d.base).Name), s.Close()); err != nil {
			t.Fatalf("byte %d: %v", n, err)
		}
	}
}

// TestLimit fills the folder, and makes room again.
func TestLimit(t *testing.T) {
	b := base(random(1, 20*blockSize))
	s := openStore(t, t.TempDir(), 4*blockSize)
	o := openOverlay(t, s, b)
	write := func(block int64) error {
		_, err := o.WriteAt(t.Context(), b, random(2, blockSize), block*blockSize)
		return err
	}
	for block := range int64(4) {
		if err := write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(4); !errors.Is(err, ErrLimit) {
		t.Errorf("past the limit: %v", err)
	}
	if err := o.Sync(); !errors.Is(err, ErrLimit) {
		t.Errorf("the sync says nothing of the write that was refused: %v", err)
	}
	if err := o.Sync(); err != nil {
		t.Errorf("the second sync: %v", err)
	}
	if err := write(2); err != nil {
		t.Errorf("in place: %v", err)
	}
	if _, err := o.WriteAt(t.Context(), b, random(3, 2*blockSize), 3*blockSize); !errors.Is(err, ErrLimit) {
		t.Errorf("half of it has room: %v", err)
	}
	if err := o.Zero(t.Context(), b, 0, blockSize); err != nil {
		t.Error(err)
	}
	if err := write(9); err != nil {
		t.Errorf("after a hole was made: %v", err)
	}
	if err := o.Close(); !errors.Is(err, ErrLimit) {
		t.Errorf("the close says nothing of the write that was refused: %v", err)
	}
	if err := s.Drop(identity(b).Name); err != nil || s.Used() != 0 {
		t.Errorf("dropped: %v, %d bytes are in use", err, s.Used())
	}
}

// TestChanged refuses an overlay over other bytes, and lets it be dropped.
func TestChanged(t *testing.T) {
	b := base(random(1, 4*blockSize))
	folder := t.TempDir()
	s := openStore(t, folder, noLimit)
	o := openOverlay(t, s, b)
	if _, err := o.WriteAt(t.Context(), b, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	other := identity(b)
	other.ID = "second"
	if _, err := s.Open(other); !errors.Is(err, ErrChanged) {
		t.Errorf("while it is open: %v", err)
	}
	if err := s.Drop(other.Name); !errors.Is(err, ErrBusy) {
		t.Errorf("dropped while it is open: %v", err)
	}
	if err := errors.Join(o.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, folder, noLimit)
	if _, err := Open(folder, noLimit); !errors.Is(err, ErrLocked) {
		t.Errorf("a second store: %v", err)
	}
	if _, err := s.Open(other); !errors.Is(err, ErrChanged) {
		t.Errorf("opened anew: %v", err)
	}
	if info, known := s.Info(other.Name); !known || info.ID != "first" || info.Bytes != blockSize || info.Err != nil {
		t.Errorf("%v, %+v", known, info)
	}
	if err := s.Drop(other.Name); err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, o, b); !bytes.Equal(got, b) {
		t.Error("it isn't pristine")
	}
	if err := errors.Join(o.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "*.*")); len(left) > 0 || err != nil {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestLeftOver removes what a kill between two steps leaves.
func TestLeftOver(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"abc.data", "abc.map.new"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := openStore(t, folder, noLimit).Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "abc*")); len(left) > 0 || err != nil {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestCompact makes the map anew once it has grown.
func TestCompact(t *testing.T) {
	d := newDisk(t, t.TempDir(), 1<<20)
	d.write([]byte("x"), 0)
	d.sync()
	d.o.logged = d.growLog(compactAbove)
	d.write([]byte("y"), 5*blockSize)
	d.sync()
	if info, err := os.Stat(d.o.base + mapExt); err != nil || info.Size() > 1000 || info.Size() != d.o.logged {
		t.Errorf("%v, %v, %d bytes are counted", info, err, d.o.logged)
	}
	kill(t, d.s)
	d.open()
	d.check()
	d.close()
}

// growLog appends the same record again and again.
func (d *disk) growLog(n int64) int64 {
	d.t.Helper()
	b := newBlocks()
	b.add(run{0, 1})
	record := appendRuns(nil, b.runs())
	data := bytes.Repeat(record, int(n)/len(record)+1)
	if _, err := d.o.log.WriteAt(data, d.o.logged); err != nil {
		d.t.Fatal(err)
	}
	return d.o.logged + int64(len(data))
}

// TestParallel writes to halves of blocks at the same time.
func TestParallel(t *testing.T) {
	const half = blockSize / 2
	d := newDisk(t, t.TempDir(), 64*blockSize)
	errs := make(chan error)
	const workers = 4
	for worker := range workers {
		go func() {
			var failed error
			for i := worker; i < len(d.base)/half; i += workers {
				off := int64(i * half)
				_, err := d.o.WriteAt(t.Context(), d.base, random(uint64(i), half), off)
				failed = errors.Join(failed, err, d.o.Sync())
			}
			errs <- failed
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for i := range len(d.base) / half {
		copy(d.now[i*half:], random(uint64(i), half))
	}
	d.check()
	kill(t, d.s)
	d.open()
	d.check()
	d.close()
}

// TestRange refuses what isn't in the image.
func TestRange(t *testing.T) {
	b := base(random(1, blockSize+7))
	s := openStore(t, t.TempDir(), noLimit)
	o := openOverlay(t, s, b)
	for _, r := range [][2]int64{{-1, 2}, {0, int64(len(b)) + 1}, {int64(len(b)), 1}, {1 << 62, 1 << 62}} {
		if err := o.Zero(t.Context(), b, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("Zero%v: %v", r, err)
		}
		p := make([]byte, min(r[1], 1<<20))
		if _, err := o.WriteAt(t.Context(), b, p, r[0]); !errors.Is(err, ErrRange) {
			t.Errorf("WriteAt%v: %v", r, err)
		}
		if _, err := o.ReadAt(t.Context(), b, p, r[0]); !errors.Is(err, ErrRange) {
			t.Errorf("ReadAt%v: %v", r, err)
		}
	}
	if len(s.List()) != 0 {
		t.Error("there are files")
	}
	if err := errors.Join(o.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// brokenBase can't be read.
type brokenBase struct{ base }

var errBroken = errors.New("broken")

func (brokenBase) ReadAt(context.Context, []byte, int64) (int, error) { return 0, errBroken }

// TestBrokenBase writes a part of a block whose other part can't be read.
func TestBrokenBase(t *testing.T) {
	b := base(random(1, 4*blockSize))
	s := openStore(t, t.TempDir(), noLimit)
	o := openOverlay(t, s, b)
	if _, err := o.WriteAt(t.Context(), brokenBase{b}, []byte("x"), 5); !errors.Is(err, errBroken) {
		t.Errorf("a part: %v", err)
	}
	if err := o.Sync(); !errors.Is(err, errBroken) {
		t.Errorf("the sync says nothing of it: %v", err)
	}
	if _, err := o.WriteAt(t.Context(), brokenBase{b}, random(2, blockSize), 0); err != nil {
		t.Errorf("a whole: %v", err)
	}
	got := readAll(t, o, b)
	if want := append(random(2, blockSize), b[blockSize:]...); !bytes.Equal(got, want) || s.Used() != blockSize {
		t.Errorf("%d bytes in use, equal: %v", s.Used(), bytes.Equal(got, want))
	}
	if err := errors.Join(o.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestHugeHole takes little memory.
func TestHugeHole(t *testing.T) {
	b := newBlocks()
	b.add(run{3, 16 << 28}) // 16 TiB
	b.remove(run{pageBits * 2, pageBits*2 + 1})
	pages := map[*[pageWords]uint64]bool{}
	for _, page := range b.pages {
		pages[page] = true
	}
	if len(pages) > 3 || b.count != 16<<28-4 {
		t.Errorf("%d pages for %d blocks", len(pages), b.count)
	}
	var text string
	for r := range b.runs() {
		text += fmt.Sprint(r)
	}
	if want := fmt.Sprint(run{3, pageBits * 2}) + fmt.Sprint(run{pageBits*2 + 1, 16 << 28}); text != want {
		t.Errorf("%s, want %s", text, want)
	}
}

// TestCloseWhileOpen makes durable what is written to a mount that was taken away.
func TestCloseWhileOpen(t *testing.T) {
	d := newDisk(t, t.TempDir(), 20*blockSize)
	d.write(random(2, 3*blockSize), 100)
	if err := d.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.o.detach(); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.check()
	d.close()
}
