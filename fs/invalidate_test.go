package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rbdbackupfs/chain"
	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// eventually asks again until ok: an invalidation is on its way while the call
// that caused it has returned. It gives up after far more than that takes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Errorf("it never came about: %s", what)
			return
		}
	}
}

func readsAs(path string, want []byte) func() bool {
	return func() bool {
		got, err := os.ReadFile(path)
		return err == nil && bytes.Equal(got, want)
	}
}

func missing(path string) func() bool {
	return func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	}
}

// A new open of a replaced snapshot sees the new bytes, though the old ones are
// in the page cache; who has it open keeps the old.
func TestSnapshotIsReplaced(t *testing.T) {
	before, after := random(1, 300_000), random(2, 200_000)
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(before)})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path := m.Images("vm/s.img")
	old := open(t, path, 0)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, before) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	ino := stat(t, path).Ino
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(after)})
	eventually(t, "the new bytes", readsAs(path, after))
	if st := stat(t, path); st.Ino == ino || st.Size != int64(len(after)) {
		t.Errorf("inode %#x as before, size %d", st.Ino, st.Size)
	}
	got := make([]byte, len(before))
	if _, err := old.ReadAt(got, 0); err != nil || !bytes.Equal(got, before) {
		t.Errorf("through the open descriptor: %v", err)
	}
}

// A snapshot that stays is not read again when others come.
func TestOthersKeepTheirPages(t *testing.T) {
	content := fstest.Data(random(1, 100_000))
	lib := fstest.New().List()
	image := lib.Set("vm", fstest.Spec{Name: "s", Content: content})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path := m.Images("vm/s.img")
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	reads := content.Reads.Load()
	lib.Set("vm", fstest.Spec{Keep: image.Snapshots[0]}, fstest.Spec{Name: "t", Content: fstest.Data([]byte("t"))})
	eventually(t, "the new snapshot", readsAs(m.Images("vm/t.img"), []byte("t")))
	if !readsAs(path, content.Bytes())() {
		t.Error("the old snapshot has other bytes")
	}
	if more := content.Reads.Load() - reads; more != 0 {
		t.Errorf("the old snapshot was read again, %d times", more)
	}
}

func TestLatestMoves(t *testing.T) {
	lib := fstest.New().List()
	image := lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	latest := m.Images("vm/latest.img")
	if target, err := os.Readlink(latest); err != nil || target != "s.img" {
		t.Fatalf("-> %q, %v", target, err)
	}
	lib.Set("vm", fstest.Spec{Keep: image.Snapshots[0]}, fstest.Spec{Name: "longer", Content: fstest.Data([]byte("l"))})
	eventually(t, "latest.img -> longer.img", func() bool {
		target, err := os.Readlink(latest)
		return err == nil && target == "longer.img" && stat(t, latest).Size == int64(len(target))
	})
	eventually(t, "the folder's new time", func() bool {
		return stat(t, m.Images("vm")).Mtim == stat(t, m.Images("vm/longer.img")).Mtim
	})
}

func TestSnapshotVanishes(t *testing.T) {
	data := random(1, 2<<20)
	lib := fstest.New().List()
	image := lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(data)}, fstest.Spec{Name: "t", Content: fstest.Data(nil)})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path := m.Images("vm/s.img")
	f := open(t, path, 0)
	lib.Set("vm", fstest.Spec{Keep: image.Snapshots[1]})
	eventually(t, "ENOENT", missing(path))
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("through the open descriptor: %v", err)
	}
	if entries, err := os.ReadDir(m.Images("vm")); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// An entry that the kernel has and the library no longer has is looked up again
// when it is opened, told or not.
func TestOpenOfWhatIsGone(t *testing.T) {
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("old"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path := m.Images("vm/s.img")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	lib.Mute()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("new"))})
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("replaced: %q, %v", got, err)
	}
	lib.Set("vm", fstest.Spec{Name: "t", Content: fstest.Data([]byte("t"))})
	if _, err := os.ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
}

func TestImagesComeAndGo(t *testing.T) {
	lib := fstest.New().List()
	spec := fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))}
	lib.Set("a/b", spec)
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	if _, err := os.Stat(m.Images("new")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	parent := stat(t, m.Images("a")).Ino
	lib.Set("new", spec)
	eventually(t, "an image appears", readsAs(m.Images("new/s.img"), []byte("s")))
	lib.Set("a", spec) // a folder becomes an image
	eventually(t, "a folder is an image", readsAs(m.Images("a/s.img"), []byte("s")))
	if stat(t, m.Images("a")).Ino != parent {
		t.Error("a folder that stays has another inode number")
	}
	if !readsAs(m.Images("a/b/s.img"), []byte("s"))() {
		t.Error("the image in it has gone")
	}
	lib.Vanish("a") // and none again
	eventually(t, "its snapshot is gone", missing(m.Images("a/s.img")))
	eventually(t, "its symlink is gone", missing(m.Images("a/latest.img")))
	if !readsAs(m.Images("a/b/s.img"), []byte("s"))() {
		t.Error("the image in it has gone")
	}
	before := stat(t, m.Images("a/b")).Ino
	lib.Vanish("a/b")
	eventually(t, "both folders are gone", missing(m.Images("a")))
	lib.Set("a/b", spec)
	eventually(t, "the image is back", readsAs(m.Images("a/b/s.img"), []byte("s")))
	if stat(t, m.Images("a/b")).Ino == before {
		t.Error("the folder that came back has its old inode number")
	}
}

// An image that came or went without a word shows at the next word about it.
func TestImageComesSilently(t *testing.T) {
	lib := fstest.New().List()
	spec := fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))}
	lib.Set("a", spec)
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	if _, err := os.ReadDir(m.Images()); err != nil {
		t.Fatal(err)
	}
	listeners := lib.Mute()
	lib.Set("b", spec)
	lib.Vanish("a")
	lib.Unmute(listeners)
	lib.Emit(chain.Event{Image: "b", Problem: true})
	eventually(t, "the new image", readsAs(m.Images("b/s.img"), []byte("s")))
	lib.Emit(chain.Event{Image: "a", Problem: true})
	eventually(t, "the old image is gone", missing(m.Images("a")))
}

// A folder that somebody is in can't be taken out of the kernel; it is empty.
func TestVanishInUse(t *testing.T) {
	lib := fstest.New().List()
	spec := fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))}
	lib.Set("a/b", spec)
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	dir := open(t, m.Images("a/b"), 0)
	f := open(t, m.Images("a/b/s.img"), 0)
	lib.Vanish("a/b")
	eventually(t, "the folder is gone", missing(m.Images("a")))
	if buf := make([]byte, 1); true {
		if _, err := f.ReadAt(buf, 0); err != nil || buf[0] != 's' {
			t.Errorf("the open file: %q, %v", buf, err)
		}
	}
	if names, err := dir.Readdirnames(-1); err == nil && len(names) != 2 {
		t.Errorf("the open folder: %q, %v", names, err)
	}
}

// Events of an image that somebody waits for must not hold up those of others.
func TestInvalidationsDontQueue(t *testing.T) {
	lib := fstest.New().List()
	lib.Pending("slow")
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{LookupWait: time.Hour})
	if _, err := os.Stat(m.Images("vm/s.img")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := os.Stat(m.Images("slow/s.img"))
		done <- err
	}()
	<-lib.Waiting()
	lib.Emit(chain.Event{Image: "slow", Latest: true}) // waits in the kernel
	lib.Set("vm", fstest.Spec{Name: "t", Content: fstest.Data([]byte("t"))})
	eventually(t, "the other image's snapshot is gone", missing(m.Images("vm/s.img")))
	lib.Set("slow", fstest.Spec{Name: "s", Content: fstest.Data([]byte("s"))})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Lookups, reads and listings during changes never see anything but a state
// that there was.
func TestChangesUnderReaders(t *testing.T) {
	lib := fstest.New().List()
	contents := [][]byte{bytes.Repeat([]byte("a"), 70_000), bytes.Repeat([]byte("b"), 90_000)}
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(contents[0])})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 3 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := os.ReadFile(m.Images("vm/s.img"))
				if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
					t.Errorf("%d bytes, %v", len(got), err)
					return
				}
				if names, err := filepath.Glob(m.Images("vm/*.img")); err != nil || len(names) != 2 {
					t.Errorf("%q, %v", names, err)
				}
			}
		}()
	}
	for i := range 300 {
		lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(contents[(i+1)%2])})
	}
	close(stop)
	for range 3 {
		<-done
	}
	eventually(t, "the last bytes", readsAs(m.Images("vm/s.img"), contents[0]))
}
