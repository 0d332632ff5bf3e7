package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/overlay"
)

// withScratch mounts lib with a scratch folder, which ends after the mount.
func withScratch(t testing.TB, lib *fstest.Library, folder string, limit int64) (*fstest.Mount, *overlay.Store) {
	t.Helper()
	store, err := overlay.Open(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, info := range store.List() {
			if info.Open != 0 {
				t.Errorf("the overlay of %q is still open", info.Name)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return fstest.NewMount(t, lib, rbdfs.Options{Scratch: store}), store
}

func scratchOf(m *fstest.Mount, elems ...string) string {
	return filepath.Join(append([]string{m.Path, "scratch"}, elems...)...)
}

// oneScratch mounts an image that has one snapshot.
func oneScratch(t testing.TB, content *fstest.Content) (m *fstest.Mount, path string) {
	t.Helper()
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: content})
	m, _ = withScratch(t, lib, t.TempDir(), 1<<30)
	return m, scratchOf(m, "vm/s.img")
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// The same tree as in images/, with files that can be written to.
func TestScratchTree(t *testing.T) {
	lib := small()
	m, _ := withScratch(t, lib, t.TempDir(), 1<<30)
	paths := map[string][]string{}
	for _, wing := range []string{"images", "scratch"} {
		top := filepath.Join(m.Path, wing)
		err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
			paths[wing] = append(paths[wing], strings.TrimPrefix(path, top))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if images, scratch := strings.Join(paths["images"], "\n"), strings.Join(paths["scratch"], "\n"); images != scratch || len(images) < 50 {
		t.Errorf("images:\n%s\nscratch:\n%s", images, scratch)
	}
	entries, err := os.ReadDir(scratchOf(m, "rbd/vm1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		listed := info.Sys().(*syscall.Stat_t)
		if image := inode(t, m.Images("rbd/vm1", entry.Name())); image == listed.Ino {
			t.Errorf("%s has the inode number of the image", entry.Name())
		}
		if info.Mode().IsRegular() && info.Mode().Perm() != 0o660 {
			t.Errorf("%s has mode %v", entry.Name(), info.Mode())
		}
	}
	if got, err := os.ReadFile(scratchOf(m, "rbd/vm1/latest.img")); err != nil || string(got) != "second" {
		t.Errorf("latest: %q, %v", got, err)
	}
}

// Without a place for what is written there is no scratch/.
func TestNoScratch(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	if _, err := os.Lstat(scratchOf(m)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A scratch file is compared with an array: written, punched and read by the page cache
// and directly; its data and holes are told as they are; the image isn't touched.
func TestScratchModel(t *testing.T) {
	content := scattered()
	model := content.Bytes()
	before := bytes.Clone(model)
	m, path := oneScratch(t, content)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	source := rand.New(rand.NewPCG(7, 7))
	for i := range 400 {
		off := source.Int64N(content.Size)
		n := min(source.Int64N(100_000)+1, content.Size-off)
		switch source.IntN(4) {
		case 0:
			data := random(uint64(i), int(n))
			if _, err := f.WriteAt(data, off); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], data)
		case 1:
			mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
			if i%2 == 0 {
				mode = unix.FALLOC_FL_ZERO_RANGE
			}
			if err := unix.Fallocate(int(f.Fd()), mode, off, n); err != nil {
				t.Fatal(err)
			}
			clear(model[off : off+n])
		case 2:
			data := aligned(t, 8192)
			copy(data, random(uint64(i), len(data)))
			if off = off &^ 4095; off+int64(len(data)) > content.Size {
				continue
			}
			if _, err := direct.WriteAt(data, off); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], data)
		case 3:
			got := make([]byte, n)
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, model[off:off+n]) {
				t.Fatalf("step %d: %d bytes at %d are others: %v", i, n, off, err)
			}
		}
	}
	dropPages(t, f)
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, model) {
		t.Errorf("in the end it holds other bytes: %v", err)
	}
	checkHoles(t, f, model)
	if err := errors.Join(f.Close(), direct.Close()); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(m.Images("vm/s.img")); err != nil || !bytes.Equal(got, before) {
		t.Errorf("the image has changed: %v", err)
	}
}

// dropPages has the kernel forget what it has of a file.
func dropPages(t testing.TB, f *os.File) {
	t.Helper()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// checkHoles walks along the data; whatever isn't data is zeros.
func checkHoles(t testing.TB, f *os.File, model []byte) {
	t.Helper()
	var at int64
	for at < int64(len(model)) {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			from = int64(len(model))
		} else if err != nil {
			t.Fatal(err)
		}
		if len(bytes.Trim(model[at:from], "\x00")) > 0 {
			t.Errorf("[%d, %d) is no hole", at, from)
		}
		if at = from; at < int64(len(model)) {
			if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil || at <= from {
				t.Fatalf("SEEK_HOLE from %d: %d, %v", from, at, err)
			}
		}
	}
}

// The size is the snapshot's, whatever is tried.
func TestScratchSize(t *testing.T) {
	_, path := oneScratch(t, fstest.Data(random(1, 10_000)))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	refused := map[string]func() error{
		"truncate":  func() error { return f.Truncate(5) },
		"grow":      func() error { return os.Truncate(path, 1<<20) },
		"O_TRUNC":   func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"chmod":     func() error { return os.Chmod(path, 0o777) },
		"past end":  func() error { _, err := f.WriteAt([]byte("xy"), 9_999); return err },
		"append":    func() error { _, err := f.WriteAt([]byte("x"), 10_000); return err },
		"fallocate": func() error { return unix.Fallocate(int(f.Fd()), 0, 0, 20_000) },
		"rename":    func() error { return os.Rename(path, path+"2") },
		"create":    func() error { return os.WriteFile(path+"2", nil, 0o600) },
		"rmdir":     func() error { return syscall.Rmdir(filepath.Dir(path)) },
		"latest":    func() error { return os.Remove(filepath.Join(filepath.Dir(path), "latest.img")) },
	}
	for what, try := range refused {
		if try() == nil {
			t.Errorf("%s was allowed", what)
		}
	}
	if err := f.Truncate(10_000); err != nil {
		t.Errorf("truncated to what it is: %v", err)
	}
	got, err := os.ReadFile(path)
	want := random(1, 10_000)
	if err != nil || len(got) != len(want) || !bytes.Equal(got[:9_999], want[:9_999]) {
		t.Errorf("it holds %d other bytes: %v", len(got), err)
	}
}

// Removing the file drops its changes: not while it is open, and then it is another one.
func TestScratchDrop(t *testing.T) {
	pristine := random(1, 100_000)
	_, path := oneScratch(t, fstest.Data(pristine))
	first := inode(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatalf("of a pristine one: %v", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	changed := inode(t, path)
	if _, err := f.WriteAt(make([]byte, 50_000), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("while it is open: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // right after, which the kernel hasn't told of yet
		t.Fatalf("once it is closed: %v", err)
	}
	last := inode(t, path)
	if first == changed || changed == last || first == last {
		t.Errorf("inode numbers are %d, %d, %d", first, changed, last)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, pristine) {
		t.Errorf("it isn't pristine: %v", err)
	}
}

// What still leads to a file that was dropped leads nowhere: the kernel has its pages.
func TestScratchDroppedIsStale(t *testing.T) {
	_, path := oneScratch(t, fstest.Data([]byte("first")))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("F"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := unix.Open(path, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(old)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", old)); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
		t.Errorf("by its name: %q, %v", got, err)
	}
}

// What was written is there after another mount, unless the snapshot is another one.
func TestScratchRemount(t *testing.T) {
	folder := t.TempDir()
	content := fstest.Data(random(1, 100_000))
	mount := func(t *testing.T, again bool) (*fstest.Mount, string) {
		lib := fstest.New().List()
		if again {
			lib.Set("other", fstest.Spec{Name: "s", Content: content}) // takes the first generation
		}
		lib.Set("vm", fstest.Spec{Name: "s", Content: content})
		m, _ := withScratch(t, lib, folder, 1<<30)
		return m, scratchOf(m, "vm/s.img")
	}
	want := append([]byte("changed"), content.Bytes()[7:]...)
	t.Run("write", func(t *testing.T) {
		_, path := mount(t, false)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.WriteAt([]byte("changed"), 0); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("read", func(t *testing.T) {
		_, path := mount(t, false)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("it holds other bytes: %v", err)
		}
	})
	t.Run("changed", func(t *testing.T) {
		m, path := mount(t, true)
		if _, err := os.ReadFile(path); !errors.Is(err, syscall.ESTALE) {
			t.Errorf("over another snapshot: %v", err)
		}
		if len(m.Log.Take("removing the file in scratch/ drops")) == 0 {
			t.Error("nothing was logged")
		}
		value := make([]byte, 200)
		n, err := unix.Getxattr(path, "user.rbdbackupfs.scratch", value)
		if err != nil || !strings.HasPrefix(string(value[:n]), "withheld: ") {
			t.Errorf("%q, %v", value[:n], err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content.Bytes()) {
			t.Errorf("it isn't pristine: %v", err)
		}
	})
}

// A snapshot that is replaced while its scratch file has changes.
func TestScratchReplaced(t *testing.T) {
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("first"))})
	m, _ := withScratch(t, lib, t.TempDir(), 1<<30)
	path := scratchOf(m, "vm/s.img")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("F"), 0); err != nil {
		t.Fatal(err)
	}
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("second"))})
	eventually(t, "the new one is shown", readsAs(m.Images("vm/s.img"), []byte("second")))
	eventually(t, "it is withheld", func() bool {
		_, err := os.ReadFile(path)
		return errors.Is(err, syscall.ESTALE)
	})
	m.Log.Take("removing the file in scratch/ drops")
	got := make([]byte, 5)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "First" {
		t.Errorf("what is open: %q, %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "second" {
		t.Errorf("once dropped: %q, %v", got, err)
	}
}

// A full scratch folder is a full disk to the writer, and no loss.
func TestScratchLimit(t *testing.T) {
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(random(1, 1<<20))})
	m, _ := withScratch(t, lib, t.TempDir(), 64<<10)
	f, err := os.OpenFile(scratchOf(m, "vm/s.img"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 64<<10), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), 512<<10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("past the limit: %v", err)
	}
	if len(m.Log.Take("limit of the scratch folder")) == 0 {
		t.Error("nothing was logged")
	}
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a loop device hears of it by the sync: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("the second sync: %v", err)
	}
	m.Log.Take("limit of the scratch folder")
	got := make([]byte, 4096)
	if _, err := f.ReadAt(got, 512<<10); err != nil || !bytes.Equal(got, random(1, 1<<20)[512<<10:516<<10]) {
		t.Errorf("what could not be written has changed: %v", err)
	}
}

// A base that can't be read is an error of what needs it, and nothing else.
func TestScratchDamaged(t *testing.T) {
	content := fstest.Data(random(1, 1<<20))
	content.Damaged = []fstest.Range{{Off: 0, End: 1 << 20}}
	m, path := oneScratch(t, content)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("part of a block"), 100); !errors.Is(err, syscall.EIO) {
		t.Errorf("a part of a block: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the sync says nothing of it: %v", err)
	}
	data := random(2, 8192)
	if _, err := f.WriteAt(data, 8192); err != nil {
		t.Errorf("whole blocks: %v", err)
	}
	got := make([]byte, 8192)
	dropPages(t, f)
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // don't read ahead
		t.Fatal(err)
	}
	if _, err := f.ReadAt(got, 8192); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was written: %v", err)
	}
	m.Log.Take("request ended in an error")
}

// A mount that is taken away by force lets go of what is open.
func TestScratchByForce(t *testing.T) {
	m, path := oneScratch(t, fstest.Data(random(1, 100_000)))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "changed"); err != nil {
		t.Fatal(err)
	}
	if err := fstest.Detach(m.Path); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	m.Wait()
}

// rm -rf drops all changes, and reaches nothing else.
func TestScratchRemoveAll(t *testing.T) {
	m, path := oneScratch(t, fstest.Data([]byte("first")))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("F"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_ = exec.CommandContext(t.Context(), "rm", "-rf", m.Path).Run() // of a mount: it has to fail
	for _, path := range []string{path, m.Images("vm/s.img")} {
		if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}
