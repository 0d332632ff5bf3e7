package mount

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/scenario"
)

// packedDiskSize is that of the image, bytes.
const packedDiskSize = 256 << 20

// packedCacheSize is the smallest that --cache-size takes, and less than what the
// noise on the disk needs.
const packedCacheSize = 64 << 20

// A packedDisk is an image with ext4, and its backups as an administrator packs them:
// a raw export through zstd, which makes one frame that can't be entered in the middle,
// and increments through gzip.
type packedDisk struct {
	repo  string
	image string
	raw   string // folder of what rbd export gives for the first and the last snapshot
	files string // folder with what is on the disk at the last snapshot
	last  string // snapshot
}

// TestPackedDisk reads a compressed chain with a file system, with a cache that holds
// all, none and one that is too small for it.
func TestPackedDisk(t *testing.T) {
	testenv.Need(t, "ceph", "fuse", "loop", "root", "ext4", "packers")
	d := newPackedDisk(t)
	t.Run("cache", func(t *testing.T) {
		m := Start(t, d.repo)
		for _, name := range []string{"s0", d.last} {
			compareWhole(t, filepath.Join(d.raw, name), m.Image(d.image, name))
		}
		d.checkFiles(t, m.Image(d.image, d.last))
		copied := filepath.Join(t.TempDir(), "copy")
		command(t, "cp", "--sparse=always", m.Image(d.image, d.last), copied)
		compareWhole(t, filepath.Join(d.raw, d.last), copied)
	})
	t.Run("none", func(t *testing.T) {
		m := Start(t, d.repo, Options{Flags: []string{"--cache", "none"}})
		d.checkPieces(t, m, d.image, d.last, noLimit)
		d.checkFiles(t, m.Image(d.image, d.last))
		if _, err := os.Stat(filepath.Join(m.Index, "cache")); err == nil {
			t.Error("there is a cache")
		}
	})
	t.Run("too-small", func(t *testing.T) {
		// What another image has in the cache has to go.
		base := filepath.Join(d.repo, "other", "s0.raw.zst")
		data, err := os.ReadFile(filepath.Join(d.repo, d.image, "s0.raw.zst"))
		if err != nil {
			t.Fatal(err)
		}
		place(t, base, data)
		m := Start(t, d.repo, Options{Flags: []string{"--cache-size", fmt.Sprint(packedCacheSize)}})
		cache := filepath.Join(m.Index, "cache")
		limit := func(t *testing.T) {
			if size := folderSize(t, cache); size > packedCacheSize {
				t.Fatalf("the cache has %d bytes, more than %d", size, packedCacheSize)
			}
		}
		limit(t)
		d.checkPieces(t, m, d.image, d.last, limit)
		first := shelves(t, cache)
		d.checkPieces(t, m, "other", "s0", limit)
		d.checkPieces(t, m, d.image, d.last, limit)
		if size := folderSize(t, cache); size < packedCacheSize/2 || len(first) == 0 {
			t.Errorf("the cache has %d bytes and had %q: it was not in use", size, first)
		}
	})
}

func noLimit(*testing.T) {}

// shelves are the names in the cache.
func shelves(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.chunks"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// newPackedDisk makes the disk, its snapshots and the backups.
func newPackedDisk(t *testing.T) *packedDisk {
	t.Helper()
	c := cluster.Start(t)
	d := &packedDisk{repo: t.TempDir(), image: "vm/disk", raw: t.TempDir(), files: t.TempDir()}
	plain := t.TempDir()
	b := scenario.NewBuilder(t.Context(), c.Conf, plain, "vm", scenario.Small())
	spec := "rbd/" + c.Name("packed")
	img := b.Create(spec, "disk", packedDiskSize)
	disk := filepath.Join(t.TempDir(), "disk")
	local := img.NewDisk(disk)
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", disk)
	noise := rand.NewChaCha8([32]byte{1})
	for i := range 4 {
		name := fmt.Sprintf("s%d", i)
		changed := map[string][]byte{
			"text-" + name: bytes.Repeat([]byte("this is "+name+"\n"), 5000),
			"log":          bytes.Repeat([]byte("a line of "+name+"\n"), 300*(i+1)),
		}
		if i == 0 {
			changed["noise"] = draw(noise, 96<<20)
		} else {
			changed["noise-"+name] = draw(noise, 3<<20)
		}
		d.change(t, disk, changed)
		local.Sync()
		img.Snap(name)
		if i == 0 {
			img.Raw(name, ".raw")
		} else {
			img.Diff(d.last, name)
		}
		if err := b.Err(); err != nil {
			t.Fatal(err)
		}
		d.last = name
	}
	c.Rbd("export", "--no-progress", spec+"@"+d.last, filepath.Join(d.raw, d.last))
	d.pack(t, filepath.Join(plain, d.image))
	return d
}

// draw takes n random bytes.
func draw(from io.Reader, n int) []byte {
	data := make([]byte, n)
	_, _ = io.ReadFull(from, data) // of a generator: never fails
	return data
}

// change writes files to the disk, and to the folder that it is compared with.
func (d *packedDisk) change(t *testing.T, disk string, files map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	command(t, "mount", "-o", "loop", disk, dir)
	defer command(t, "umount", dir)
	for name, data := range files {
		write(t, filepath.Join(dir, name), data)
		write(t, filepath.Join(d.files, name), data)
	}
}

// pack leaves nothing of the plain backups in the repository.
func (d *packedDisk) pack(t *testing.T, plain string) {
	t.Helper()
	entries, err := os.ReadDir(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(d.repo, d.image), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		source, target := filepath.Join(plain, e.Name()), filepath.Join(d.repo, d.image, e.Name())
		if filepath.Ext(source) == ".raw" {
			command(t, "zstd", "-q", source, "-o", target+".zst")
			if err := os.Rename(source, filepath.Join(d.raw, "s0")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		p := packerOf(t, "gzip")
		data, err := p.file(source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, target+p.ext, data)
	}
}

// checkFiles checks the file system, mounts it and compares all files.
func (d *packedDisk) checkFiles(t *testing.T, image string) {
	t.Helper()
	command(t, "e2fsck", "-fn", image)
	dir := t.TempDir()
	command(t, "mount", "-o", "ro,loop", image, dir)
	defer command(t, "umount", dir)
	command(t, "diff", "-r", "--exclude=lost+found", d.files, dir)
}

// checkPieces compares an image from its begin to its end and then at a few places
// backwards, and looks at the cache after each piece.
func (d *packedDisk) checkPieces(t *testing.T, m *Mount, image, name string, each func(t *testing.T)) {
	t.Helper()
	const piece = 8 << 20
	got, want := open(t, m.Image(image, name)), open(t, filepath.Join(d.raw, name))
	compare := func(off int64) {
		bufs := [2][]byte{make([]byte, piece), make([]byte, piece)}
		for i, f := range []*os.File{got, want} {
			if _, err := f.ReadAt(bufs[i], off); err != nil {
				t.Fatalf("%s at %d: %v", f.Name(), off, err)
			}
		}
		if !bytes.Equal(bufs[0], bufs[1]) {
			t.Fatalf("%s has other bytes in the %d at %d", got.Name(), piece, off)
		}
		each(t)
	}
	for off := int64(0); off < packedDiskSize; off += piece {
		compare(off)
	}
	dropPages(t, got)
	for off := int64(packedDiskSize - 3*piece); off > 0; off -= packedDiskSize / 4 {
		compare(off + 12345)
	}
}
