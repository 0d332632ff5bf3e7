package guestfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

// makeTree fills a folder with one of everything that an ordinary user can make.
func makeTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	noise := rand.NewChaCha8([32]byte{'t', 'r', 'e', 'e'})
	write := func(name string, p []byte) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, p, 0o640))
	}
	random := func(n int) []byte {
		p := make([]byte, n)
		_, _ = noise.Read(p)
		return p
	}
	write("empty", nil)
	write("etc/hosts", []byte("127.0.0.1 localhost\n"))
	write("etc/deep/deeper/deepest/file", random(100))
	write("inline", random(150)) // more than fits into the block map
	write("big/noise", random(3<<20+17))
	write("name \xff\n\x1b[31m", []byte("odd"))
	for i := range 1200 {
		write(fmt.Sprintf("many/%s-%05d", strings.Repeat("long", 12), i), []byte(fmt.Sprint(i)))
	}
	must(t, os.Symlink("hosts", filepath.Join(dir, "etc/fast")))
	must(t, os.Symlink(strings.Repeat("a/", 50)+"end", filepath.Join(dir, "etc/middle")))
	must(t, os.Symlink(strings.Repeat("b/", 500)+"end", filepath.Join(dir, "etc/slow")))
	must(t, os.Link(filepath.Join(dir, "etc/hosts"), filepath.Join(dir, "etc/hosts2")))
	must(t, os.Chmod(filepath.Join(dir, "etc/deep"), 0o1777))
	must(t, syscall.Mkfifo(filepath.Join(dir, "etc/fifo"), 0o600))

	// An extent for each block: more than one block of extents, and all levels of a block map.
	sparse, err := os.Create(filepath.Join(dir, "big/sparse"))
	must(t, err)
	for i := range int64(700) {
		_, err := sparse.WriteAt(random(1024), i*64<<10)
		must(t, err)
	}
	_, err = sparse.WriteAt(random(5000), 90<<20) // past what two levels of 1 KiB blocks hold
	must(t, err)
	must(t, sparse.Truncate(95<<20))
	must(t, sparse.Close())
	when := time.Unix(1_700_000_000, 0)
	must(t, os.Chtimes(filepath.Join(dir, "etc/hosts"), when, when))
	return dir
}

// extKinds are ways to make a file system. Each is a line of flags of mke2fs.
func extKinds() []string {
	return []string{
		"-t ext2 -b 1024", "-t ext2 -b 2048", "-t ext2 -b 4096", "-t ext2 -b 1024 -r 0", "-t ext2 -O ^filetype",
		"-t ext3 -b 1024", "-t ext3 -b 4096",
		"-t ext4 -b 1024", "-t ext4 -b 2048", "-t ext4 -b 4096", "-t ext4 -b 4096 -I 128", "-t ext4 -b 1024 -I 1024",
		"-t ext4 -O ^metadata_csum,^64bit", "-t ext4 -O ^extents,^64bit", "-t ext4 -O ^flex_bg,sparse_super2",
		"-t ext4 -O metadata_csum_seed", "-t ext4 -O bigalloc -C 16384", "-t ext4 -O bigalloc -b 1024 -C 8192",
		"-t ext4 -O meta_bg,^resize_inode", "-t ext4 -O meta_bg,^resize_inode -b 1024 -g 1024",
		"-t ext4 -O encrypt,casefold", "-t ext4 -O large_dir,ea_inode,mmp", "-t ext4 -O ^has_journal,quota,project",
	}
}

func TestExtOfEveryKind(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	for i, flags := range extKinds() {
		if testing.Short() && i%7 != 0 {
			continue
		}
		t.Run(flags, func(t *testing.T) {
			image := newImage(t, 128<<20)
			tool(t, "mke2fs", append(strings.Fields("-q -F -L label -d "+dir+" "+flags), image)...)
			s := openImage(t, image)
			if want := strings.Fields(flags)[1]; s.Kind != want || s.Label != "label" || s.Dirty {
				t.Errorf("it is %s %q, dirty %v", s.Kind, s.Label, s.Dirty)
			}
			assertSame(t, s, dir)
		})
	}
}

// Data in inodes: mke2fs 1.47.0 gets the size of a sparse file wrong there, so the
// kernel's own are compared below, and of this tree what isn't sparse.
func TestExtInline(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	must(t, os.Remove(filepath.Join(dir, "big/sparse")))
	image := newImage(t, 64<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data", "-I", "512", "-d", dir, image)
	assertSame(t, openImage(t, image), dir)
}

func TestExtTimes(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	image := newImage(t, 128<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image)
	tool(t, "debugfs", "-w", "-R", "set_inode_field /empty mtime 20991231235959", image)
	s := openImage(t, image)
	for path, want := range map[string]time.Time{
		"/etc/hosts": time.Unix(1_700_000_000, 0),
		"/empty":     time.Date(2099, time.December, 31, 23, 59, 59, 0, time.UTC),
	} {
		f, err := s.Lookup(path, false)
		must(t, err)
		if !f.ModTime.Equal(want) {
			t.Errorf("%s changed at %s, want %s", path, f.ModTime, want)
		}
	}
}

func TestLookup(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	must(t, os.Symlink("/etc", filepath.Join(dir, "abs")))
	must(t, os.Symlink("../../../../etc/hosts", filepath.Join(dir, "etc/out")))
	must(t, os.Symlink("/many", filepath.Join(dir, "etc/root")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	image := newImage(t, 128<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image)
	s := openImage(t, image)
	for _, c := range []struct {
		path   string
		follow bool
		want   string // the path that was found, or the error
	}{
		{"", false, "/"},
		{"/", false, "/"},
		{"/..", false, "/"},
		{"//etc/./hosts", false, "/etc/hosts"},
		{"/abs/hosts", false, "/etc/hosts"},
		{"/abs", false, "/abs"},
		{"/abs", true, "/etc"},
		{"/abs/", false, "/etc"},
		{"/etc/out", true, "/etc/hosts"},
		{"/etc/root/", false, "/many"},
		{"/etc/deep/../fast", true, "/etc/hosts"},
		{"/loop", true, "ext4: /loop: symbolic links that lead in a circle"},
		{"/etc/none", false, "ext4: /etc/none: file does not exist"},
		{"/etc/hosts/x", false, "ext4: /etc/hosts: not a folder"},
	} {
		f, err := s.Lookup(c.path, c.follow)
		got := fmt.Sprint(err)
		if err == nil {
			got = f.Path
		}
		if got != c.want {
			t.Errorf("%q (%v) is %q, want %q", c.path, c.follow, got, c.want)
		}
	}
}

// What the kernel writes, against what the kernel reads.
func TestExtOfTheKernel(t *testing.T) {
	testenv.Need(t, "ext4", "root", "loop")
	testenv.Long(t)
	for _, flags := range []string{
		"-t ext4", "-t ext4 -O inline_data", "-t ext4 -b 1024", "-t ext4 -O bigalloc -C 65536", "-t ext2 -b 1024", "-t ext3",
	} {
		t.Run(flags, func(t *testing.T) {
			image := newImage(t, 1<<30)
			tool(t, "mke2fs", append(strings.Fields("-q -F "+flags), image)...)
			dir := t.TempDir()
			tool(t, "mount", "-o", "loop", image, dir)
			mounted := true
			defer func() {
				if mounted {
					tool(t, "umount", dir)
				}
			}()
			fillAsRoot(t, dir)
			tool(t, "mount", "-o", "remount,ro", dir)
			s := openImage(t, image)
			if s.Dirty {
				t.Error("it is dirty")
			}
			assertSame(t, s, dir)
			tool(t, "umount", dir)
			mounted = false
		})
	}
}

func fillAsRoot(t *testing.T, dir string) {
	t.Helper()
	tool(t, "cp", "-a", makeTree(t)+"/.", dir)
	must(t, syscall.Mknod(filepath.Join(dir, "null"), syscall.S_IFCHR|0o666, 1<<8|3))
	must(t, syscall.Mknod(filepath.Join(dir, "block"), syscall.S_IFBLK|0o600, 259<<8|7|300&0xFFF00<<12))
	must(t, os.Lchown(filepath.Join(dir, "etc/fast"), 100_000, 200_000))
	// 3 MiB in pieces, with a hole that was punched and a part that was never written.
	file, err := os.Create(filepath.Join(dir, "pieces"))
	must(t, err)
	defer file.Close()
	_, err = io.Copy(file, io.LimitReader(rand.NewChaCha8([32]byte{1}), 3<<20))
	must(t, err)
	const keepSize, punchHole = 1, 2
	_ = syscall.Fallocate(int(file.Fd()), keepSize|punchHole, 1<<20, 64<<10) // ext2 can't
	_ = syscall.Fallocate(int(file.Fd()), 0, 3<<20, 1<<20)
	// Past 4 GiB.
	_, err = file.WriteAt([]byte("far"), 5<<30)
	must(t, err)
	for i := range 300 { // removed ones leave gaps in the folder
		if i%3 == 0 {
			must(t, os.Remove(filepath.Join(dir, fmt.Sprintf("many/%s-%05d", strings.Repeat("long", 12), i))))
		}
	}
}

// What was reserved and never written is zeros, whatever lies there.
func TestUnwrittenExtents(t *testing.T) {
	testenv.Need(t, "ext4")
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, bytes.Repeat([]byte("old"), 4<<20), 0o600))
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("new"), 0o600))
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-E", "nodiscard", "-d", dir, image)
	tool(t, "debugfs", "-w", "-R", "fallocate /file 1 20", image)
	tool(t, "debugfs", "-w", "-R", "set_inode_field /file size 21504", image)
	f, err := openImage(t, image).Lookup("/file", false)
	must(t, err)
	got, want := make([]byte, f.Size), make([]byte, 21<<10)
	copy(want, "new")
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v %.2000q", err, got)
	}
	if begin, end, err := f.Data(0); begin != 0 || end != 1024 || err != nil {
		t.Errorf("data in [%d, %d), %v", begin, end, err)
	}
}

// A name that would lead elsewhere is none.
func TestNamesThatCantBe(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "AAAAAAA"), nil, 0o600))
	image := newImage(t, 4<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", dir, image)
	whole, err := os.ReadFile(image)
	must(t, err)
	for _, name := range []string{"../evil", "/etc/pw", "nul\x00abc"} {
		p := bytes.Replace(whole, []byte("AAAAAAA"), []byte(name), 1)
		s, err := Open(bytes.NewReader(p), int64(len(p)))
		must(t, err)
		root, err := s.Root()
		must(t, err)
		if _, err := root.Entries(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A bit that flips in metadata is noticed wherever it lies, as long as checksums are
// kept.
func TestChecksumsAreCompared(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	image := newImage(t, 128<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", dir, image)
	whole, err := os.ReadFile(image)
	must(t, err)
	s, err := Open(bytes.NewReader(whole), int64(len(whole)))
	must(t, err)
	v := s.volume.(*extVolume)
	sparse, err := s.Lookup("/big/sparse", false)
	must(t, err)
	folder, err := s.Lookup("/many", false)
	must(t, err)
	r, err := v.run(folder, 0)
	must(t, err)
	table, err := v.inodeTable(0)
	must(t, err)
	child := int64(le.Uint32(sparse.inode.blocks[12+4:])) * v.block // the first node below the root
	for what, at := range map[string]int64{
		"superblock": extSuperOffset + 0x78, "descriptor": int64(v.descriptors(0))*v.block + 0x8,
		"root": int64(table)*v.block + v.inodeSize + 0x10, "folder": r.at + 40, "extents": child + 20,
	} {
		t.Run(what, func(t *testing.T) {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1
			if err := readEverything(damaged, 1<<30); err == nil {
				t.Errorf("a bit of byte %d is another one, and nobody noticed", at)
			}
		})
	}
}
