package fs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rbdbackupfs/chain"
	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// small is a library with nested images and odd names.
func small() *fstest.Library {
	lib := fstest.New()
	lib.Set("rbd/vm1",
		fstest.Spec{Name: "v1", Content: fstest.Data([]byte("first"))},
		fstest.Spec{Name: "a/b", Content: fstest.Data([]byte("slash"))},
		fstest.Spec{Name: "latest", Content: fstest.Data([]byte("named latest"))},
		fstest.Spec{Name: "daily", Of: "full-1.img", Content: fstest.Data([]byte("claimed"))},
		fstest.Spec{Name: strings.Repeat("n", 4096), Content: fstest.Data([]byte("long"))},
		fstest.Spec{Name: "v2", Content: fstest.Data([]byte("second"))})
	lib.Set("rbd/vm1/sub", fstest.Spec{Name: "s", Content: fstest.Data([]byte("below an image"))})
	lib.Set("x.img", fstest.Spec{Name: "1", Content: fstest.Data([]byte("odd folder"))})
	return lib.List()
}

func TestTree(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	var got []string
	err := filepath.WalkDir(m.Path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		got = append(got, entry.Type().String()[:1]+" "+strings.TrimPrefix(path, m.Path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	long := "/images/rbd/vm1/" + strings.Repeat("n", 217) + "%-"
	for i, line := range got {
		if strings.HasPrefix(line, "- "+long) {
			got[i] = "- long"
		}
	}
	want := []string{
		"d ", "d /images", "d /images/rbd", "d /images/rbd/vm1",
		"- /images/rbd/vm1/%6Catest.img", "- /images/rbd/vm1/a%2Fb.img", "- /images/rbd/vm1/daily~full-1.img.img",
		"L /images/rbd/vm1/latest.img", "- long", "d /images/rbd/vm1/sub",
		"L /images/rbd/vm1/sub/latest.img", "- /images/rbd/vm1/sub/s.img",
		"- /images/rbd/vm1/v1.img", "- /images/rbd/vm1/v2.img", "d /images/x%2Eimg",
		"- /images/x%2Eimg/1.img", "L /images/x%2Eimg/latest.img", "- /status.json",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{
		"rbd/vm1/v1.img": "first", "rbd/vm1/a%2Fb.img": "slash", "rbd/vm1/latest.img": "second",
		"rbd/vm1/%6Catest.img": "named latest", "rbd/vm1/daily~full-1.img.img": "claimed",
		"rbd/vm1/sub/s.img": "below an image", "x%2Eimg/1.img": "odd folder",
	} {
		if got, err := os.ReadFile(m.Images(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", "nothing.img", "%76%31.img", "v1", "sub.img", "v1.img~", strings.Repeat("x", 255)} {
		if _, err := os.Stat(m.Images("rbd/vm1", name)); name != "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want that it doesn't exist", name, err)
		}
	}
	if target, err := os.Readlink(m.Images("rbd/vm1/latest.img")); err != nil || target != "v2.img" {
		t.Errorf("latest.img -> %q, %v", target, err)
	}
}

func TestAttributes(t *testing.T) {
	content := &fstest.Content{Size: 5<<20 + 7, Extents: []fstest.Extent{{Off: 1 << 20, Data: make([]byte, 513)}}}
	mtime := time.Date(2024, 2, 29, 1, 2, 3, 456, time.UTC)
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: content, ModTime: mtime})
	uid, gid := uint32(1234), uint32(4321)
	m := fstest.NewMount(t, lib, rbdfs.Options{UID: &uid, GID: &gid, Umask: 0o027})

	st := stat(t, m.Images("vm/s.img"))
	if st.Size != content.Size || st.Blocks != 2 || st.Blksize != 1<<20 || st.Mode != syscall.S_IFREG|0o440 {
		t.Errorf("size %d, blocks %d, blksize %d, mode %o", st.Size, st.Blocks, st.Blksize, st.Mode)
	}
	if st.Uid != uid || st.Gid != gid || st.Mtim.Sec != mtime.Unix() || st.Mtim.Nsec != 456 {
		t.Errorf("owner %d:%d, mtime %v", st.Uid, st.Gid, st.Mtim)
	}
	// What lookup says and what fstat of an open file says must be one thing.
	f, err := os.Open(m.Images("vm/s.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	var again syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &again); err != nil || again != st {
		t.Errorf("fstat %+v, stat %+v, %v", again, st, err)
	}
	if dir := stat(t, m.Images("vm")); dir.Mode != syscall.S_IFDIR|0o550 || dir.Uid != uid || dir.Mtim.Sec != mtime.Unix() {
		t.Errorf("folder: mode %o, uid %d, mtime %v", dir.Mode, dir.Uid, dir.Mtim)
	}
}

func TestInodeNumbers(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	seen := map[uint64]string{}
	err := filepath.WalkDir(m.Path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if other, used := seen[st.Ino]; used || st.Ino>>63 != 0 {
			t.Errorf("%s has inode %#x, as has %s", path, st.Ino, other)
		}
		seen[st.Ino] = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if ino := stat(t, m.Images("rbd/vm1/v1.img")).Ino; ino != 3<<56|1<<8 {
		t.Errorf("the first snapshot has inode %#x", ino)
	}
}

// A reader that goes back in a folder must see the same entries.
func TestReaddirSeek(t *testing.T) {
	lib := fstest.New().List()
	var specs []fstest.Spec
	content := fstest.Data([]byte("x"))
	for i := range 3000 {
		specs = append(specs, fstest.Spec{Name: "snapshot-" + strings.Repeat("0", 60) + string(rune('a'+i%26)) +
			string(rune('a'+i/26%26)) + string(rune('a'+i/676)), Content: content})
	}
	lib.Set("vm", specs...)
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	dir, err := os.Open(m.Images("vm"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, dir)
	before := lib.Asked()
	first, err := dir.Readdirnames(-1)
	if asked := lib.Asked() - before; asked > 2 {
		t.Errorf("listing names looked into the image %d times", asked)
	}
	if err != nil || len(first) != 3001 {
		t.Fatalf("%d names, %v", len(first), err)
	}
	if _, err := dir.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	again, err := dir.Readdirnames(-1)
	if err != nil || !slices.Equal(first, again) {
		t.Fatalf("%d names again, %v", len(again), err)
	}
	// ls -l looks each one up.
	infos, err := os.ReadDir(m.Images("vm"))
	if err != nil || len(infos) != 3001 {
		t.Fatalf("%d entries, %v", len(infos), err)
	}
	for _, entry := range infos {
		if info, err := entry.Info(); err != nil || info.Size() != 1 && entry.Type() != fs.ModeSymlink {
			t.Fatalf("%s: %v, %v", entry.Name(), info, err)
		}
	}
}

func TestStatusFile(t *testing.T) {
	lib := small()
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path := filepath.Join(m.Path, "status.json")
	read := func() (status chain.Status) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &status); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if size := stat(t, path).Size; size != int64(len(data)) {
			t.Errorf("st_size %d, %d bytes", size, len(data))
		}
		return status
	}
	if got := read().Images; got != 3 {
		t.Errorf("%d images, want 3", got)
	}
	for i := range 9 {
		lib.Pending(strings.Repeat("i", i+1))
	}
	if got := read().Images; got != 12 {
		t.Errorf("%d images, want 12", got)
	}
}

func TestStatusOption(t *testing.T) {
	content := bytes.Repeat([]byte("status\n"), 50_000)
	m := fstest.NewMount(t, small(), rbdfs.Options{Status: func() ([]byte, error) { return content, nil }})
	got, err := os.ReadFile(filepath.Join(m.Path, "status.json"))
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// What is read is one status, whatever size the one before had.
func TestStatusIsWhole(t *testing.T) {
	var calls atomic.Int64
	m := fstest.NewMount(t, small(), rbdfs.Options{Status: func() ([]byte, error) {
		n := calls.Add(1) * 7919 % 20_000
		return append(bytes.Repeat([]byte("s"), int(n)), '.'), nil
	}})
	path := filepath.Join(m.Path, "status.json")
	for range 100 {
		stat(t, path)
		got, err := os.ReadFile(path)
		if err != nil || len(got) == 0 || bytes.IndexByte(got, '.') != len(got)-1 || len(bytes.Trim(got, "s.")) > 0 {
			t.Fatalf("%d bytes, %v: %.20q", len(got), err, got)
		}
	}
}

func TestStatfs(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	var st syscall.Statfs_t
	if err := syscall.Statfs(m.Path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Namelen != 255 || st.Frsize != 4096 || st.Blocks != 1 || st.Bfree != 0 || st.Bavail != 0 || st.Files != 8 {
		t.Errorf("%+v", st)
	}
}

func stat(t testing.TB, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

func closeFile(t testing.TB, f *os.File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
