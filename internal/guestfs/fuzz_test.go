package guestfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

// readEverything reads all of an image, or as much as the budget of bytes and names
// allows, and gives the first error.
func readEverything(image []byte, budget int) (first error) {
	note := func(err error) {
		if err != nil && err != io.EOF && first == nil {
			first = err
		}
	}
	s, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return err
	}
	root, err := s.Root()
	if err != nil {
		return err
	}
	folders, seen := []*File{root}, map[uint64]bool{root.ID: true}
	for len(folders) > 0 && budget > 0 {
		f := folders[0]
		folders = folders[1:]
		entries, err := f.Entries()
		note(err)
		budget -= len(entries)
		for _, e := range entries[:min(len(entries), max(budget, 0))] {
			child, err := e.Open()
			if err != nil {
				note(err)
				continue
			}
			switch {
			case child.IsDir() && !seen[child.ID]:
				seen[child.ID] = true
				folders = append(folders, child)
			case child.IsLink():
				_, err := child.Target()
				note(err)
			case child.IsRegular():
				note(readData(child, &budget))
			}
		}
	}
	return first
}

func readData(f *File, budget *int) error {
	p := make([]byte, min(f.Size, 64<<10))
	for off := int64(0); *budget > 0; {
		begin, end, err := f.Data(off)
		if err != nil || begin == f.Size {
			return err
		}
		for off = begin; off < end && *budget > 0; {
			n, err := f.ReadAt(p[:min(end-off, int64(len(p)))], off)
			if err != nil {
				return err
			}
			off, *budget = off+int64(n), *budget-n
		}
	}
	return nil
}

// smallImages are a file system of each kind, of a few hundred KiB, without checksums.
func smallImages(t testing.TB) [][]byte {
	t.Helper()
	testenv.Need(t, "ext4", "fat", "mtools")
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "folder/deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "folder/deep/file"), []byte("deep"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "long name of a file.text"), make([]byte, 5000), 0o600))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	for i := range int64(20) {
		_, err := sparse.WriteAt([]byte("data"), i*7<<10)
		must(t, err)
	}
	must(t, sparse.Close())
	read := func(path string) []byte {
		p, err := os.ReadFile(path)
		must(t, err)
		return p
	}
	fat := newImage(t, 256<<10)
	tool(t, "mkfs.fat", fat)
	tool(t, "mcopy", "-s", "-i", fat, filepath.Join(dir, "folder"), filepath.Join(dir, "long name of a file.text"), "::")
	images := [][]byte{read(fat)}
	for i := range 300 {
		must(t, os.WriteFile(filepath.Join(dir, "folder", fmt.Sprintf("name-%d", i)), nil, 0o600))
	}
	must(t, os.Symlink("folder/deep", filepath.Join(dir, "fast")))
	must(t, os.Symlink(strings.Repeat("folder/../", 20), filepath.Join(dir, "slow")))
	for _, flags := range []string{
		"-t ext2 -b 1024", "-t ext4 -b 1024 -O ^metadata_csum,^has_journal", "-t ext4 -b 1024 -O ^metadata_csum,^has_journal,inline_data -I 256",
	} {
		image := newImage(t, 400<<10)
		tool(t, "mke2fs", append(strings.Fields("-q -F -N 400 -d "+dir+" "+flags), image)...)
		images = append(images, read(image))
	}
	return append(images, read(imageWithJournal(t, dir, "^metadata_csum", "jo")))
}

// imageWithJournal is a small one whose journal holds two transactions.
func imageWithJournal(t testing.TB, dir, features, open string) string {
	t.Helper()
	image := newImage(t, 3<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, "-J", "size=1", "-N", "400", "-d", dir, image)
	block := filepath.Join(t.TempDir(), "block")
	must(t, os.WriteFile(block, bytes.Repeat([]byte("\xC0\x3B\x39\x98"), 256), 0o600))
	commands := filepath.Join(t.TempDir(), "commands")
	must(t, os.WriteFile(commands, []byte(open+"\njw -b 1900 "+block+"\njw -b 1901 -r 1900,1902 "+block+"\njc\n"), 0o600))
	tool(t, "debugfs", "-w", "-f", commands, image)
	return image
}

// Whatever changes in an image, it is read or refused, without a panic that only
// caught has turned into an error, in little time.
func FuzzImage(f *testing.F) {
	images := smallImages(f)
	for i := range images {
		f.Add(byte(i), []byte{0, 4, 0, 0x18, 7, 0, 4, 0, 0x20, 9})
	}
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		image := append([]byte(nil), images[int(which)%len(images)]...)
		for ; len(changes) >= 4; changes = changes[4:] {
			// A byte at an offset. Most of what matters lies at the beginning.
			at := int(binary.LittleEndian.Uint32([]byte{changes[0], changes[1], changes[2] & 7, 0}))
			image[at%len(image)] = changes[3]
		}
		begin := time.Now()
		err := readEverything(image, 8<<20)
		if err != nil && strings.Contains(err.Error(), panicked) {
			t.Error(err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it took %s (%v)", took, err)
		}
	})
}

// A panic is an error of the call that it happened in.
func TestPanicIsAnError(t *testing.T) {
	err := func() (err error) {
		defer caught("ext4", "/etc", &err)
		panic("odd")
	}()
	want := "ext4: /etc: " + panicked + " (odd): the file system is damaged there"
	if !errors.Is(err, ErrCorrupt) || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// As above, at random and without a fuzzer: where there is something, mostly numbers at
// the edge of what they can be.
func TestDamagedImages(t *testing.T) {
	images := smallImages(t)
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for which, whole := range images {
		var used []int
		for i, c := range whole {
			if c != 0 {
				used = append(used, i)
			}
		}
		for range rounds {
			image := bytes.Clone(whole)
			var changes []string
			for range 1 + random.IntN(4) {
				at := used[random.IntN(len(used))] + random.IntN(3) - 1
				values := []byte{0, 1, 2, 0x7F, 0x80, 0xFF, byte(random.Uint32()), image[max(at, 0)] + 1}
				image[max(at, 0)] = values[random.IntN(len(values))]
				changes = append(changes, fmt.Sprintf("%d: %#x", at, image[max(at, 0)]))
			}
			begin := time.Now()
			err := readEverything(image, 8<<20)
			if err != nil {
				refused++
			}
			if took := time.Since(begin); err != nil && strings.Contains(err.Error(), panicked) || took > 10*time.Second {
				t.Errorf("image %d, %v: %v, in %s", which, changes, err, took)
			}
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed at all")
	}
}

// debugfs wrote the journal: a block in two transactions, the first of which the second
// revokes.
func TestSmallJournal(t *testing.T) {
	testenv.Need(t, "ext4")
	s := openImage(t, imageWithJournal(t, makeFATTree(t), "^metadata_csum", "jo"))
	o, ok := s.volume.bytes().(*overlay)
	if !ok || s.Dirty {
		t.Fatalf("it wasn't replayed, dirty %v", s.Dirty)
	}
	if _, ok := o.at[1900]; ok || len(o.at) == 0 || !o.at[1901].escaped {
		t.Errorf("it replays %v", o.at)
	}
	p := make([]byte, 1024)
	_, err := s.volume.bytes().ReadAt(p[:1000], 1901<<10+3)
	must(t, err)
	if want := bytes.Repeat([]byte("\x98\xC0\x3B\x39"), 250); !bytes.Equal(p[:1000], want) {
		t.Errorf("the block begins %x", p[:16])
	}
}

// A block of the journal that differs from its checksum: nothing of it is replayed.
func TestJournalIsTorn(t *testing.T) {
	testenv.Need(t, "ext4")
	for _, version := range []string{"2", "3"} {
		image := imageWithJournal(t, makeFATTree(t), "metadata_csum", "jo -c -v "+version)
		o, ok := openImage(t, image).volume.bytes().(*overlay)
		if !ok {
			t.Fatal("it isn't replayed at all")
		}
		r, err := o.journal.next(int64(o.at[1901].position) * 1024)
		must(t, err)
		file, err := os.OpenFile(image, os.O_RDWR, 0)
		must(t, err)
		_, err = file.WriteAt([]byte("x"), r.at+100)
		must(t, errors.Join(err, file.Close()))
		if s := openImage(t, image); !s.Dirty {
			t.Errorf("version %s: a torn block was replayed", version)
		}
	}
}
