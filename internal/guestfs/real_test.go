package guestfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// tool runs a program that makes test data.
func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	program, err := testenv.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, args...)
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MTOOLS_SKIP_CHECK=1")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// newImage makes an empty image.
func newImage(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, size))
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openImage opens the file system of an image.
func openImage(t testing.TB, path string) *FileSystem {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	info, err := file.Stat()
	must(t, err)
	s, err := Open(file, info.Size())
	must(t, err)
	return s
}

// assertSame compares all of a file system with what a folder of the host has.
func assertSame(t *testing.T, s *FileSystem, dir string) {
	t.Helper()
	root, err := s.Root()
	must(t, err)
	files := 0
	assertSameFolder(t, root, dir, &files)
	if files < 10 {
		t.Errorf("only %d files were compared", files)
	}
}

func assertSameFolder(t *testing.T, f *File, dir string, files *int) {
	t.Helper()
	entries, err := f.Entries()
	if err != nil {
		t.Fatalf("%s: %v", f.Path, err)
	}
	want, err := os.ReadDir(dir)
	must(t, err)
	var got, expected []string
	for _, e := range entries {
		if e.Path() != "/lost+found" {
			got = append(got, e.Name)
		}
	}
	for _, e := range want {
		if filepath.Join(f.Path, e.Name()) != "/lost+found" {
			expected = append(expected, e.Name())
		}
	}
	if strings.Join(got, "\n") != strings.Join(expected, "\n") {
		t.Fatalf("%s has %d names, want %d: %.200q, want %.200q", f.Path, len(got), len(expected), got, expected)
	}
	for _, e := range entries {
		if e.Path() == "/lost+found" {
			continue
		}
		child, err := e.Open()
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		*files++
		host := filepath.Join(dir, e.Name)
		assertSameFile(t, child, host)
		if child.IsDir() {
			assertSameFolder(t, child, host, files)
		}
	}
}

func assertSameFile(t *testing.T, f *File, host string) {
	t.Helper()
	info, err := os.Lstat(host)
	must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	if f.fs.Owned {
		got := fmt.Sprintf("%o %d:%d", f.Mode, f.UID, f.GID)
		want := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		if !f.IsDir() {
			got, want = fmt.Sprintf("%s %d links", got, f.Links), fmt.Sprintf("%s %d links", want, st.Nlink)
		}
		if got != want {
			t.Errorf("%s is %s, want %s", f.Path, got, want)
		}
	}
	switch {
	case f.IsRegular():
		assertSameBytes(t, f, host)
	case f.IsLink():
		want, err := os.Readlink(host)
		must(t, err)
		if got, err := f.Target(); got != want || err != nil {
			t.Errorf("%s leads to %q (%v), want %q", f.Path, got, err, want)
		}
	case f.IsDir() != info.IsDir():
		t.Errorf("%s is %o, want %s", f.Path, f.Mode, info.Mode())
	case f.Mode&TypeMask == TypeChar, f.Mode&TypeMask == TypeBlock:
		if got, want := fmt.Sprint(f.Major, f.Minor), fmt.Sprint(st.Rdev>>8&0xFFF, st.Rdev&0xFF|st.Rdev>>12&0xFFF00); got != want {
			t.Errorf("%s is device %s, want %s", f.Path, got, want)
		}
	}
}

// assertSameBytes compares contents part by part: what Data calls a hole has to be
// zeros, and all of it what the host has.
func assertSameBytes(t *testing.T, f *File, host string) {
	t.Helper()
	file, err := os.Open(host)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	if f.Size != info.Size() {
		t.Errorf("%s has %d bytes, want %d", f.Path, f.Size, info.Size())
		return
	}
	piece := min(max(f.Size, 7), 1<<20)
	got, want := make([]byte, piece), make([]byte, piece)
	for off := int64(0); off < f.Size; {
		begin, end, err := f.Data(off)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		// The host's file may be sparse as well, but read fast only where it says so.
		assertHole(t, file, f.Path, off, begin)
		for off = begin; off < end; {
			n := min(end-off, int64(len(got)))
			if _, err := f.ReadAt(got[:n], off); err != nil {
				t.Errorf("%v", err)
				return
			}
			if _, err := file.ReadAt(want[:n], off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("%s differs in [%d, %d)", f.Path, off, off+n)
				return
			}
			off += n
		}
	}
	if n, err := f.ReadAt(got[:7], f.Size); n != 0 || err != io.EOF {
		t.Errorf("%s: %d bytes past the end (%v)", f.Path, n, err)
	}
}

// assertHole fails unless [begin, end) of a file of the host is zeros.
func assertHole(t *testing.T, file *os.File, path string, begin, end int64) {
	t.Helper()
	p := make([]byte, min(end-begin, 1<<20))
	for off := begin; off < end; {
		data, err := file.Seek(off, 3) // SEEK_DATA
		if errors.Is(err, syscall.ENXIO) || err == nil && data >= end {
			return
		}
		must(t, err)
		off = max(off, data)
		n := min(end-off, int64(len(p)))
		_, err = file.ReadAt(p[:n], off)
		must(t, err)
		if len(bytes.Trim(p[:n], "\x00")) > 0 {
			t.Errorf("%s: a hole at %d, where there is data", path, off)
			return
		}
		off += n
	}
}
