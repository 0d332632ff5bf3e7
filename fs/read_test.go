package fs_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"rbdbackupfs/chain"
	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// random returns n bytes that are no zeros.
func random(seed uint64, n int) []byte {
	source := rand.New(rand.NewPCG(seed, seed))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(1 + source.IntN(255))
	}
	return data
}

// scattered is a content of odd size, with extents that touch no block borders.
func scattered() *fstest.Content {
	return &fstest.Content{Size: 9<<20 + 4321, Extents: []fstest.Extent{
		{Off: 0, Data: random(1, 1000)},
		{Off: 4097, Data: random(2, 3<<20)},
		{Off: 5 << 20, Data: random(3, 1)},
		{Off: 5<<20 + 1, Data: random(4, 70_000)}, // touches the one before
		{Off: 9<<20 + 4000, Data: random(5, 321)},
	}}
}

// one mounts a library with one snapshot, vm/s.img.
func one(t testing.TB, content *fstest.Content) *fstest.Mount {
	t.Helper()
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: content})
	return fstest.NewMount(t, lib, rbdfs.Options{})
}

func open(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFile(t, f) })
	return f
}

// Reads of any offset and length, through the page cache and past it, equal the
// model.
func TestReadsEqualModel(t *testing.T) {
	content := scattered()
	model := content.Bytes()
	m := one(t, content)
	cached := open(t, m.Images("vm/s.img"), 0)
	direct := open(t, m.Images("vm/s.img"), syscall.O_DIRECT)
	buffer := aligned(t, 3<<20)
	rapid.Check(t, func(rt *rapid.T) {
		off := rapid.Int64Range(0, content.Size+10_000).Draw(rt, "off")
		length := rapid.OneOf(rapid.IntRange(0, 9000), rapid.IntRange(0, 3<<20)).Draw(rt, "len")
		want := model[min(off, content.Size):min(off+int64(length), content.Size)]
		buf := make([]byte, length)
		n, err := cached.ReadAt(buf, off)
		if n != len(want) || !bytes.Equal(buf[:n], want) || n < length && !errors.Is(err, io.EOF) {
			rt.Fatalf("ReadAt(%d, %d): %d bytes, %v, want %d", off, length, n, err, len(want))
		}
		const page = 4096
		off, length = off/page*page, length/page*page
		want = model[min(off, content.Size):min(off+int64(length), content.Size)]
		n, err = direct.ReadAt(buffer[:length], off)
		if n != len(want) || !bytes.Equal(buffer[:n], want) || n < length && !errors.Is(err, io.EOF) {
			rt.Fatalf("O_DIRECT ReadAt(%d, %d): %d bytes, %v, want %d", off, length, n, err, len(want))
		}
	})
}

// aligned returns a buffer that O_DIRECT takes.
func aligned(t testing.TB, n int) []byte {
	t.Helper()
	buf, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(buf); err != nil {
			t.Error(err)
		}
	})
	return buf
}

func TestParallelReads(t *testing.T) {
	content := scattered()
	model := content.Bytes()
	m := one(t, content)
	f := open(t, m.Images("vm/s.img"), 0)
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			source := rand.New(rand.NewPCG(worker, 0))
			buf := make([]byte, 200_000)
			for range 40 {
				off := source.Int64N(content.Size)
				n, err := f.ReadAt(buf, off)
				if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(buf[:n], model[off:off+int64(n)]) {
					t.Errorf("ReadAt(%d): %d bytes, %v", off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

// One slow read must not keep others waiting.
func TestReadsDontQueue(t *testing.T) {
	slow := fstest.Data([]byte("slow"))
	slow.Block = make(chan struct{})
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "slow", Content: slow}, fstest.Spec{Name: "quick", Content: fstest.Data([]byte("quick"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got, err := os.ReadFile(m.Images("vm/slow.img")); err != nil || string(got) != "slow" {
				t.Errorf("slow: %q, %v", got, err)
			}
		})
	}
	if got, err := os.ReadFile(m.Images("vm/quick.img")); err != nil || string(got) != "quick" {
		t.Errorf("quick: %q, %v", got, err)
	}
	close(slow.Block)
	wg.Wait()
}

// Walking with SEEK_DATA and SEEK_HOLE gives the extents, merged where they touch.
func TestLseekWalk(t *testing.T) {
	content := scattered()
	m := one(t, content)
	f := open(t, m.Images("vm/s.img"), 0)
	var got []fstest.Range
	for off := int64(0); ; {
		data, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if off, err = f.Seek(data, unix.SEEK_HOLE); err != nil {
			t.Fatal(err)
		}
		got = append(got, fstest.Range{Off: data, End: off})
	}
	want := []fstest.Range{
		{Off: 0, End: 1000}, {Off: 4097, End: 4097 + 3<<20}, {Off: 5 << 20, End: 5<<20 + 70_001},
		{Off: 9<<20 + 4000, End: content.Size},
	}
	if len(got) != len(want) {
		t.Fatalf("extents %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("extent %d: %v, want %v", i, got[i], want[i])
		}
	}
}

func TestLseekEdges(t *testing.T) {
	hole := &fstest.Content{Size: 10_000}
	m := one(t, hole)
	f := open(t, m.Images("vm/s.img"), 0)
	tests := []struct {
		off    int64
		whence int
		want   int64
		errno  syscall.Errno
	}{
		{0, unix.SEEK_DATA, 0, syscall.ENXIO},
		{0, unix.SEEK_HOLE, 0, 0},
		{9999, unix.SEEK_HOLE, 9999, 0},
		{10_000, unix.SEEK_HOLE, 0, syscall.ENXIO},
		{10_000, unix.SEEK_DATA, 0, syscall.ENXIO},
		{1 << 40, unix.SEEK_HOLE, 0, syscall.ENXIO},
		{0, io.SeekEnd, 10_000, 0},
		{5, io.SeekEnd, 10_005, 0},
	}
	for _, test := range tests {
		got, err := f.Seek(test.off, test.whence)
		if test.errno != 0 && !errors.Is(err, test.errno) || test.errno == 0 && (err != nil || got != test.want) {
			t.Errorf("Seek(%d, %d) = %d, %v, want %d, %v", test.off, test.whence, got, err, test.want, test.errno)
		}
	}
}

// Damage is an error for its own pages, the rest can be read.
func TestDamagedRange(t *testing.T) {
	for name, change := range map[string]func(*fstest.Content){
		"error":              func(*fstest.Content) {},
		"backup file gone":   func(c *fstest.Content) { c.Cause = os.ErrNotExist },
		"snapshot not found": func(c *fstest.Content) { c.Cause = chain.ErrNotFound },
		"fewer bytes":        func(c *fstest.Content) { c.Short = true },
	} {
		t.Run(name, func(t *testing.T) {
			const page = 4096
			content := fstest.Data(random(7, 4<<20))
			content.Damaged = []fstest.Range{{Off: 1<<20 + 5, End: 1<<20 + 6}}
			change(content)
			model := content.Bytes()
			m := one(t, content)
			f := open(t, m.Images("vm/s.img"), 0)
			buf := make([]byte, page)
			for off := int64(0); off < content.Size; off += page {
				_, err := f.ReadAt(buf, off)
				switch bad := off == 1<<20; {
				case bad && !errors.Is(err, syscall.EIO):
					t.Errorf("the damaged page: %v, want EIO", err)
				case !bad && (err != nil || !bytes.Equal(buf, model[off:off+page])):
					t.Fatalf("page at %d: %v", off, err)
				}
			}
			logged := m.Log.Take("request ended in an error")
			if len(logged) == 0 || len(logged) > 4 || !strings.Contains(logged[0], "image=vm snapshot=s") {
				t.Errorf("logged: %q", logged)
			}
		})
	}
}

// One bad file must not fill the log.
func TestLogIsLimited(t *testing.T) {
	content := fstest.Data(random(8, 1<<20))
	content.Damaged = []fstest.Range{{Off: 0, End: 1 << 20}}
	m := one(t, content)
	f := open(t, m.Images("vm/s.img"), 0)
	for i := range 200 {
		if _, err := f.ReadAt(make([]byte, 10), int64(i)*4096); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
	}
	if logged := m.Log.Take("request ended in an error"); len(logged) != 3 {
		t.Errorf("%d lines logged, want 3", len(logged))
	}
}

// A descriptor that is still open when the mount is taken away gives an error,
// and nothing stays behind.
func TestUnmountedByForce(t *testing.T) {
	m := one(t, fstest.Data(random(9, 1<<20)))
	f, err := os.Open(m.Images("vm/s.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.Detach(m.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("detached, but the descriptor is open: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	m.Wait()
}

// What the kernel reads ahead may still be on its way when the mount is taken away: nobody
// waits for the answer then, and nobody has to be told.
func TestUnmountedWhileReadingAhead(t *testing.T) {
	testenv.Need(t, "root")
	content := fstest.Data(random(10, 1<<20))
	content.Block = make(chan struct{})
	m := one(t, content)
	f, err := os.Open(m.Images("vm/s.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kernel reads ahead", func() bool { return content.Reads.Load() > 0 })
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Unmount(m.Path, 0); err != nil {
		t.Fatal(err)
	}
	close(content.Block)
	m.Wait()
}

// A view is closed when its descriptor is, not when the mount ends.
func TestViewIsClosed(t *testing.T) {
	m := one(t, fstest.Data([]byte("x")))
	for range 3 {
		if _, err := os.ReadFile(m.Images("vm/s.img")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no view is open", func() bool { return m.Lib.OpenViews() == 0 })
}
