package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openFile(t *testing.T, r *Repo, rel string) *Handle {
	t.Helper()
	h, err := r.OpenFile(rel, pinNow(t, filepath.Join(r.Root(), rel)))
	must(t, err)
	t.Cleanup(h.Release)
	return h
}

func TestReadAt(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "vm/a.raw", "0123456789")
	h := openFile(t, open(t, dir, Options{}), "vm/a.raw")
	for _, c := range []struct {
		off  int64
		len  int
		want string
		err  error
	}{
		{0, 10, "0123456789", nil},
		{3, 4, "3456", nil},
		{10, 0, "", nil},
		{8, 3, "89", io.ErrUnexpectedEOF},
		{50, 1, "", io.ErrUnexpectedEOF},
		{-1, 1, "", unix.EINVAL},
	} {
		p := make([]byte, c.len)
		n, err := h.ReadAt(p, c.off)
		if string(p[:n]) != c.want || !errors.Is(err, c.err) {
			t.Errorf("ReadAt(%d bytes, %d) = %q, %v; want %q, %v", c.len, c.off, p[:n], err, c.want, c.err)
		}
	}
	h.Release()
	h.Release()
	if _, err := h.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Release: %v", err)
	}
}

func TestOpenFileWantsThePinnedFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "old")
	r := open(t, dir, Options{})
	pin := pinNow(t, filepath.Join(dir, "a"))
	other := []Pin{
		{pin.Inode + 1, pin.Size, pin.MTimeNs}, {pin.Inode, pin.Size + 1, pin.MTimeNs}, {pin.Inode, pin.Size, pin.MTimeNs + 1},
	}
	for _, wrong := range other {
		if _, err := r.OpenFile("a", wrong); !errors.Is(err, ErrChanged) {
			t.Errorf("OpenFile with %+v instead of %+v: %v", wrong, pin, err)
		}
	}
	if _, err := r.OpenFile("b", pin); !errors.Is(err, ErrGone) {
		t.Errorf("no such file: %v", err)
	}
}

func TestTruncatedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	put(t, dir, "a", "0123456789")
	h := openFile(t, open(t, dir, Options{}), "a")
	must(t, h.Check())
	must(t, os.Truncate(path, 4))
	p := make([]byte, 4)
	if n, err := h.ReadAt(p, 0); n != 4 || err != nil {
		t.Errorf("the part that is left: %d, %v", n, err)
	}
	if n, err := h.ReadAt(p, 2); n != 2 || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("across the end: %d, %v", n, err)
	}
	if err := h.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("Check: %v", err)
	}
	for name, seek := range map[string]func(int64) (int64, error){"NextData": h.NextData, "NextHole": h.NextHole} {
		if at, err := seek(6); !errors.Is(err, ErrChanged) {
			t.Errorf("%s in the lost part = %d, %v; want ErrChanged", name, at, err)
		}
	}
}

func TestReplacedFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "old!")
	put(t, dir, "new", "new contents")
	r := open(t, dir, Options{})
	pin := pinNow(t, filepath.Join(dir, "a"))
	h := openFile(t, r, "a")
	must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")))

	p := make([]byte, 4)
	if _, err := h.ReadAt(p, 0); err != nil || string(p) != "old!" {
		t.Errorf("the open handle reads %q, %v; want what was pinned", p, err)
	}
	if err := h.Check(); !errors.Is(err, ErrGone) || errors.Is(err, ErrChanged) {
		t.Errorf("Check: %v, want ErrGone", err)
	}
	again := openFile(t, r, "a") // the new one, by its own pin
	p = make([]byte, 12)
	if _, err := again.ReadAt(p, 0); err != nil || string(p) != "new contents" {
		t.Errorf("the new file reads %q, %v", p, err)
	}
	if _, err := open(t, dir, Options{}).OpenFile("a", pin); !errors.Is(err, ErrChanged) {
		t.Errorf("opening with the old pin: %v, want ErrChanged", err)
	}
}

func TestFileChangedInPlace(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "old!")
	h := openFile(t, open(t, dir, Options{}), "a")
	put(t, dir, "a", "new!")
	must(t, os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(1, 1)))
	if err := h.Check(); !errors.Is(err, ErrChanged) {
		t.Errorf("Check: %v, want ErrChanged", err)
	}
}

func TestNothingIsFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "f", "secret")
	put(t, dir, "d/f", "public")
	must(t, os.Symlink("f", filepath.Join(dir, "d/link")))
	must(t, os.Symlink("d", filepath.Join(dir, "dlink")))
	must(t, os.Symlink(outside, filepath.Join(dir, "away")))
	must(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "secret")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	r := open(t, dir, Options{})
	pin := pinNow(t, filepath.Join(dir, "d/f"))
	for _, rel := range []string{"d/link", "dlink/f", "away/f", "secret", "d", "fifo"} {
		if h, err := r.OpenFile(rel, pin); !errors.Is(err, ErrNotRegular) {
			t.Errorf("OpenFile(%s) = %v, %v; want ErrNotRegular", rel, h, err)
		}
	}
	secret := pinNow(t, filepath.Join(outside, "f"))
	up, err := filepath.Rel(dir, filepath.Join(outside, "f"))
	must(t, err)
	for _, rel := range []string{up, "/etc/passwd", "d/../d/f", "./d/f", "d//f", "", ".", "d/f\x00"} {
		if h, err := r.OpenFile(rel, secret); !errors.Is(err, unix.EINVAL) {
			t.Errorf("OpenFile(%q) = %v, %v; want EINVAL", rel, h, err)
		}
	}
}

// Opening a pipe wakes the program that waits for a reader, opening a device may
// do anything: so neither is opened, not even to look what it is.
func TestPipesAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(path, 0o644))
	put(t, dir, "file", "x")
	r := open(t, dir, Options{})
	events, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	defer func() { _ = unix.Close(events) }()
	for _, name := range []string{"fifo", "file"} {
		_, err = unix.InotifyAddWatch(events, filepath.Join(dir, name), unix.IN_OPEN)
		must(t, err)
	}
	buf := make([]byte, 4096)
	if _, err := r.OpenFile("fifo", pinNow(t, path)); !errors.Is(err, ErrNotRegular) {
		t.Errorf("OpenFile: %v, want ErrNotRegular", err)
	}
	if _, _, err := r.List(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := unix.Read(events, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%d bytes of events, %v: something was opened", n, err)
	}
	openFile(t, r, "file")
	if n, err := unix.Read(events, buf); n <= 0 {
		t.Errorf("opening a file goes unnoticed, %v: this test proves nothing", err)
	}
}

// A folder is exchanged for a link to another one, over and over, while a file
// in it is opened: it must always be the file in the tree.
func TestFolderSwappedForLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "f", "secret")
	put(t, dir, "d/f", "public")
	must(t, os.Symlink(outside, filepath.Join(dir, "l")))
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer func() { _ = unix.Close(dirfd) }()

	var over atomic.Bool
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for !over.Load() {
			_ = unix.Renameat2(dirfd, "d", dirfd, "l", unix.RENAME_EXCHANGE)
		}
	})
	ok, refused := 0, 0
	for ok < 300 || refused < 300 {
		fd, err := openBeneath(dirfd, "d/f", unix.O_RDONLY)
		if err != nil {
			refused++
			continue
		}
		ok++
		p := make([]byte, 6)
		if _, err := unix.Pread(fd, p, 0); err != nil || string(p) != "public" {
			t.Errorf("read %q, %v", p, err)
		}
		_ = unix.Close(fd)
	}
	over.Store(true)
	swapper.Wait()
}

func TestHoles(t *testing.T) {
	const block = 64 << 10
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "a.raw"))
	must(t, err)
	data := bytes.Repeat([]byte{7}, block)
	for _, at := range []int64{2, 3, 8} {
		_, err := f.WriteAt(data, at*block)
		must(t, err)
	}
	must(t, f.Truncate(16*block))
	must(t, f.Close())
	h := openFile(t, open(t, dir, Options{}), "a.raw")
	for _, c := range []struct{ off, data, hole int64 }{
		{0, 2, 0}, {2, 2, 4}, {3, 3, 4}, {4, 8, 4}, {8, 8, 9}, {9, 16, 9}, {15, 16, 15}, {16, 16, 16}, {99, 16, 16},
	} {
		if got, err := h.NextData(c.off * block); err != nil || got != c.data*block {
			t.Errorf("NextData(%d) = %d blocks and %d, %v; want %d", c.off, got/block, got%block, err, c.data)
		}
		if got, err := h.NextHole(c.off * block); err != nil || got != c.hole*block {
			t.Errorf("NextHole(%d) = %d blocks and %d, %v; want %d", c.off, got/block, got%block, err, c.hole)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	const limit = 8
	dir := t.TempDir()
	r := open(t, dir, Options{Descriptors: limit})
	for i := range 50 {
		put(t, dir, fmt.Sprint(i), "x")
		openFile(t, r, fmt.Sprint(i)).Release()
	}
	if n := len(openDescriptors(t, dir)); n != limit {
		t.Errorf("%d descriptors are open, want %d", n, limit)
	}
	var held []*Handle
	for i := range 20 {
		held = append(held, openFile(t, r, fmt.Sprint(i)))
	}
	if n := len(openDescriptors(t, dir)); n != len(held) {
		t.Errorf("%d descriptors are open, want the %d that are in use", n, len(held))
	}
	for _, h := range held {
		h.Release()
	}
	if n := len(openDescriptors(t, dir)); n != limit {
		t.Errorf("%d descriptors are open afterwards, want %d", n, limit)
	}
	must(t, r.Close())
	if left := openDescriptors(t, dir); len(left) > 0 {
		t.Errorf("open after Close: %v", left)
	}
}

// All descriptors that the process may have are used up by idle ones.
func TestCacheMakesRoom(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{Descriptors: 10_000})
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	const more = 40
	for i := range 3 * more {
		put(t, dir, fmt.Sprint(i), "x")
	}
	small := before
	small.Cur = uint64(len(all) + more)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &small))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()

	for i := range 3 * more {
		openFile(t, r, fmt.Sprint(i)).Release()
	}
	var held []*Handle
	defer func() {
		for _, h := range held {
			h.Release()
		}
	}()
	for i := range 3 * more { // and now none of them is idle
		rel := fmt.Sprint(i)
		h, err := r.OpenFile(rel, pinNow(t, filepath.Join(dir, rel)))
		if err != nil {
			var typed *Error
			if !errors.Is(err, unix.EMFILE) || !errors.As(err, &typed) || typed.Hint == "" {
				t.Errorf("after %d files: %v", i, err)
			}
			return
		}
		held = append(held, h)
	}
	t.Errorf("%d files could be held open within a limit of %d more", len(held), more)
}

func TestCacheUnderLoad(t *testing.T) {
	const files, readers, reads = 40, 8, 2000
	dir := t.TempDir()
	pins := make([]Pin, files)
	for i := range files {
		put(t, dir, fmt.Sprintf("%02d", i), fmt.Sprintf("contents of %02d", i))
		pins[i] = pinNow(t, filepath.Join(dir, fmt.Sprintf("%02d", i)))
	}
	r := open(t, dir, Options{Descriptors: 7})
	var wg sync.WaitGroup
	for seed := range uint64(readers) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p := make([]byte, len("contents of 00"))
			for range reads {
				i := rnd.IntN(files)
				h, err := r.OpenFile(fmt.Sprintf("%02d", i), pins[i])
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := h.ReadAt(p, 0); err != nil || string(p) != fmt.Sprintf("contents of %02d", i) {
					t.Errorf("file %d reads %q, %v", i, p, err)
				}
				if rnd.IntN(20) == 0 {
					r.cache.forget(h.d.key)
				}
				h.Release()
			}
		})
	}
	wg.Wait()
	if n := len(openDescriptors(t, dir)); n > 7 {
		t.Errorf("%d descriptors are open", n)
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	if r.cache.opened != r.cache.idle.Len() || r.cache.opened != len(r.cache.files) {
		t.Errorf("opened %d, idle %d, listed %d", r.cache.opened, r.cache.idle.Len(), len(r.cache.files))
	}
}

func TestHandlesOutliveClose(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "1234")
	r, err := Open(dir, Options{})
	must(t, err)
	h := openFile(t, r, "a")
	must(t, r.Close())
	p := make([]byte, 4)
	if _, err := h.ReadAt(p, 0); err != nil || string(p) != "1234" {
		t.Errorf("%q, %v", p, err)
	}
	h.Release()
	if left := openDescriptors(t, dir); len(left) > 0 {
		t.Errorf("open after the last Release: %v", left)
	}
	if _, err := r.OpenFile("a", pinNow(t, filepath.Join(dir, "a"))); err == nil {
		t.Error("OpenFile after Close worked")
	}
}

func BenchmarkOpenReadRelease(b *testing.B) {
	dir := b.TempDir()
	put(b, dir, "a/b/c", "0123456789")
	pin := pinNow(b, filepath.Join(dir, "a/b/c"))
	for name, limit := range map[string]int{"cached": 0, "evicted": 1} {
		b.Run(name, func(b *testing.B) {
			r := open(b, dir, Options{Descriptors: limit})
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, 8)
				for pb.Next() {
					h, err := r.OpenFile("a/b/c", pin)
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := h.ReadAt(p, 1); err != nil {
						b.Error(err)
					}
					h.Release()
					if limit == 1 {
						r.cache.forget(key{"a/b/c", pin})
					}
				}
			})
		})
	}
}
