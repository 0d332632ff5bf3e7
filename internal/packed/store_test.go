package packed

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
)

func testStore(t *testing.T, folder string, limit int64) *store {
	t.Helper()
	s, err := openStore(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.lock.Close() }) // also after close
	return s
}

// folderSize is that of the files but the lock.
func folderSize(t *testing.T, folder string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// holds tells which chunks of 0 to n are there, and are right.
func holds(t *testing.T, s *store, id string, chunks [][]byte) (there []int) {
	t.Helper()
	for i, want := range chunks {
		p := make([]byte, len(want), ChunkSize)
		if s.get(chunkKey{id, int64(i)}, p) {
			if !bytes.Equal(p, want) {
				t.Fatalf("chunk %d has other bytes", i)
			}
			there = append(there, i)
		}
	}
	return there
}

func testChunks(n int) (chunks [][]byte) {
	for i := range n {
		chunks = append(chunks, noise(uint64(i), ChunkSize-i*1000))
	}
	return chunks
}

// TestStoreLimit: it never has more than its limit, drops what was used least
// recently, and a scan drives nothing out.
func TestStoreLimit(t *testing.T) {
	folder, chunks := t.TempDir(), testChunks(4)
	const limit = 6 << 20
	s := testStore(t, folder, limit)
	fill := func(id string, evict bool) {
		for i, data := range chunks[:2] {
			s.put(chunkKey{id, int64(i)}, data, evict)
			if size := folderSize(t, folder); size > limit || size != s.total {
				t.Fatalf("%d bytes are there, %d are known", size, s.total)
			}
		}
	}
	fill("a", true)
	fill("b", true)
	fill("a", true)
	if got := len(holds(t, s, "a", chunks)); got != 2 {
		t.Fatalf("%d chunks", got)
	}
	fill("c", false)
	fill("d", false)
	if len(holds(t, s, "c", chunks)) == 0 || len(holds(t, s, "d", chunks)) != 0 || len(holds(t, s, "b", chunks)) != 2 {
		t.Error("a scan drove others out, or had no room")
	}
	holds(t, s, "a", chunks)
	fill("d", true)
	if len(holds(t, s, "a", chunks)) != 2 || len(holds(t, s, "d", chunks)) != 2 || s.shelves["c"] != nil && s.shelves["b"] != nil {
		t.Error("another one than the oldest went")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	// Less room than last time.
	s = testStore(t, folder, 3<<20)
	if size := folderSize(t, folder); size > 3<<20 || size != s.total || size == 0 {
		t.Errorf("%d bytes are there, %d are known", size, s.total)
	}
}

// TestStoreLeft: what a killed process left is used as far as it is whole, and
// nothing of it stays uncounted.
func TestStoreLeft(t *testing.T) {
	chunks := testChunks(3)
	list := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { truncate(t, path+listExt, n) }
	}
	frames := func(n int64) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { truncate(t, path+chunksExt, n) }
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
		want   int // chunks that are left
	}{
		{"nothing", func(*testing.T, string) {}, 3},
		{"an entry is cut off", list(3*listEntry - 1), 2},
		{"an entry is missing", list(listEntry), 1},
		{"a frame is cut off", frames(1<<20 + 1<<19), 1},
		{"the list is missing", func(t *testing.T, path string) { remove(t, path+listExt) }, 0},
		{"the frames are missing", func(t *testing.T, path string) { remove(t, path+chunksExt) }, 0},
		{"an entry is of other bytes", func(t *testing.T, path string) { flip(t, path+listExt, listEntry+9) }, 1},
		{"the list ends in zeros", func(t *testing.T, path string) { truncate(t, path+listExt, 5*listEntry) }, 3},
		{"a frame is of other bytes", func(t *testing.T, path string) { flip(t, path+chunksExt, 3) }, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			s := testStore(t, folder, 1<<30)
			for i, data := range chunks {
				s.put(chunkKey{"a", int64(i)}, data, false)
			}
			_ = s.lock.Close() // as at a kill: nothing else is done
			test.damage(t, filepath.Join(folder, "a"))
			s = testStore(t, folder, 1<<30)
			if got := holds(t, s, "a", chunks); len(got) != test.want {
				t.Errorf("chunks %v are left", got)
			}
			for i, data := range chunks {
				s.put(chunkKey{"a", int64(i)}, data, false)
			}
			if size := folderSize(t, folder); size != s.total {
				t.Errorf("%d bytes are there, %d are known", size, s.total)
			}
			if got := holds(t, s, "a", chunks); len(got) != 3 {
				t.Errorf("chunks %v are there", got)
			}
			_ = s.lock.Close()
			s = testStore(t, folder, 1<<30)
			if got := holds(t, s, "a", chunks); len(got) != 3 {
				t.Errorf("chunks %v are there the next time", got)
			}
		})
	}
}

// TestStoreBroken: a store that can't be written to or read is an empty one.
func TestStoreBroken(t *testing.T) {
	folder, chunks := filepath.Join(t.TempDir(), "cache"), testChunks(2)
	s := testStore(t, folder, 1<<30)
	s.put(chunkKey{"a", 0}, chunks[0], true)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	s.put(chunkKey{"a", 1}, chunks[1], true)
	s.put(chunkKey{"b", 1}, chunks[1], true)
	if got := append(holds(t, s, "a", chunks), holds(t, s, "b", chunks)...); len(got) > 0 || s.total != 0 {
		t.Errorf("chunks %v, %d bytes", got, s.total)
	}
}

// TestStoreLeavesRoom: it doesn't fill the file system.
func TestStoreLeavesRoom(t *testing.T) {
	testenv.Need(t, "root")
	folder := t.TempDir()
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=20m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s := testStore(t, folder, 1<<30)
	for i := range int64(25) {
		s.put(chunkKey{"a", i}, noise(uint64(i), ChunkSize), true)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		t.Fatal(err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free == 0 || s.total < 15<<20 {
		t.Errorf("%d bytes are free, %d are used", free, s.total)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// TestStoreLocked: a folder is of one process.
func TestStoreLocked(t *testing.T) {
	folder := t.TempDir()
	testStore(t, folder, 1<<30)
	if _, err := openStore(folder, 1<<30); err == nil {
		t.Error("two have it")
	}
}

// TestTempCache: what a killed process left goes, and what others have stays.
func TestTempCache(t *testing.T) {
	parent := t.TempDir()
	// One that is in use, one of a killed process, one from before it was locked, and
	// something else.
	first, err := NewTempCache(parent, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	killed, err := NewTempCache(parent, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	killed.store.put(chunkKey{"a", 0}, noise(1, 1000), true)
	if err := killed.store.lock.Close(); err != nil {
		t.Fatal(err)
	}
	early := filepath.Join(parent, tempPrefix+"early")
	other := filepath.Join(parent, "rbdbackupfs-other")
	link := filepath.Join(parent, tempPrefix+"link")
	for _, dir := range []string{early, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	second, err := NewTempCache(parent, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{first.temp: true, second.temp: true, other: true, link: true, killed.temp: false, early: false} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, c := range []*Cache{first, second} {
		c.store.put(chunkKey{"a", 0}, noise(1, 1000), true)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(c.temp); err == nil {
			t.Errorf("%s is left", c.temp)
		}
	}
}

func truncate(t *testing.T, name string, n int64) {
	t.Helper()
	if err := os.Truncate(name, n); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
