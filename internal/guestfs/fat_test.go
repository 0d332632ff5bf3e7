package guestfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

// makeFATTree fills a folder with what FAT can hold.
func makeFATTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, p []byte) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, p, 0o600))
	}
	write("SHORT.TXT", []byte("short"))
	write("empty", nil)
	write("Folder with spaces/Ünïcode näme 日本.text", []byte("long"))
	write("Folder with spaces/"+strings.Repeat("x", 255), []byte("longest"))
	noise := make([]byte, 700_001)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i>>7)
	}
	write("noise.bin", noise)
	for i := range 300 {
		write(fmt.Sprintf("many/file-with-a-name-%d.data", i), []byte(fmt.Sprint(i)))
	}
	when := time.Date(2023, time.November, 14, 22, 13, 20, 0, time.Local)
	must(t, os.Chtimes(filepath.Join(dir, "SHORT.TXT"), when, when))
	return dir
}

// makeFAT makes a file system with the tree in it. Every second of some files is
// removed before others are copied, so that those lie in pieces.
func makeFAT(t testing.TB, dir string, size int64, flags ...string) string {
	t.Helper()
	image := newImage(t, size)
	tool(t, "mkfs.fat", append(append([]string{"-n", "LABEL"}, flags...), image)...)
	pieces := t.TempDir()
	for i := range 100 {
		must(t, os.WriteFile(filepath.Join(pieces, fmt.Sprintf("piece%d", i)), make([]byte, 3000), 0o600))
	}
	tool(t, "mcopy", "-s", "-i", image, pieces, "::pieces")
	for i := 0; i < 100; i += 2 {
		tool(t, "mdel", "-i", image, fmt.Sprintf("::pieces/piece%d", i))
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	args := []string{"-s", "-m", "-i", image}
	for _, e := range entries {
		args = append(args, filepath.Join(dir, e.Name()))
	}
	tool(t, "mcopy", append(args, "::")...)
	tool(t, "mdeltree", "-i", image, "::pieces")
	return image
}

func TestFAT(t *testing.T) {
	testenv.Need(t, "fat", "mtools")
	dir := makeFATTree(t)
	for _, c := range []struct {
		kind  string
		size  int64
		flags string
	}{
		{"fat12", 4 << 20, "-F 12"},
		{"fat16", 32 << 20, "-F 16"},
		{"fat16", 32 << 20, "-F 16 -f 1 -r 1024"},
		{"fat32", 64 << 20, "-F 32 -s 1"},
		{"fat32", 300 << 20, "-F 32 -s 8"},
		{"fat32", 600 << 20, "-F 32 -S 4096"},
	} {
		t.Run(c.kind+c.flags, func(t *testing.T) {
			s := openImage(t, makeFAT(t, dir, c.size, strings.Fields(c.flags)...))
			if s.Kind != c.kind || s.Label != "LABEL" || s.Owned {
				t.Errorf("it is %s %q, owned %v", s.Kind, s.Label, s.Owned)
			}
			assertSame(t, s, dir)
			f, err := s.Lookup("/many/../short.txt", false)
			must(t, err)
			if want := time.Date(2023, time.November, 14, 22, 13, 20, 0, time.UTC); !f.ModTime.Equal(want) {
				t.Errorf("it changed at %s, want %s", f.ModTime, want)
			}
		})
	}
}

// Clusters that lead in a circle are an error, and not a folder without an end.
func TestFATCircles(t *testing.T) {
	testenv.Need(t, "fat", "mtools")
	image := makeFAT(t, makeFATTree(t), 64<<20, "-F", "32", "-s", "1")
	s := openImage(t, image)
	v := s.volume.(*fatVolume)
	file, err := s.Lookup("/noise.bin", false)
	must(t, err)
	folder, err := s.Lookup("/many", false)
	must(t, err)
	raw, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer raw.Close()
	for _, cluster := range []uint32{file.chain.from, folder.chain.from} {
		_, err := raw.WriteAt(le32(cluster), v.table+4*int64(cluster))
		must(t, err)
	}
	s = openImage(t, image)
	folder, err = s.Lookup("/many", false)
	must(t, err)
	if _, err := folder.Entries(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the folder: %v", err)
	}
	file, err = s.Lookup("/noise.bin", false)
	must(t, err)
	if n, err := file.ReadAt(make([]byte, file.Size), 0); n != 512 || !errors.Is(err, ErrCorrupt) {
		t.Errorf("the file: %d bytes, %v", n, err)
	}
}
