package guestfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// A file system that is in use is copied; the kernel, which replays its journal when it
// mounts the copy, is what is compared with.
func TestJournalIsReplayed(t *testing.T) {
	testenv.Need(t, "ext4", "root", "loop")
	for i, c := range []struct{ flags, options string }{
		{"-t ext4", ""},
		{"-t ext4 -b 1024 -J size=4", ""}, // small, so that it begins anew now and then
		{"-t ext4 -O ^metadata_csum,^64bit", ""},
		{"-t ext4", ",data=journal"},
		{"-t ext4 -O ^metadata_csum", ",data=journal"},
		{"-t ext3 -b 1024", ""},
		{"-t ext4 -O fast_commit", ""},
	} {
		if testing.Short() && i > 0 {
			break
		}
		t.Run(c.flags+c.options, func(t *testing.T) {
			image, dir := newImage(t, 128<<20), t.TempDir()
			tool(t, "mke2fs", append(strings.Fields("-q -F "+c.flags), image)...)
			tool(t, "mount", "-o", "loop"+c.options, image, dir)
			func() {
				defer tool(t, "umount", dir)
				churn(t, dir)
				tool(t, "sync")
				tool(t, "cp", "--sparse=always", image, image+".used")
				tool(t, "cp", "--sparse=always", image, image+".replayed")
			}()
			tool(t, "mount", "-o", "loop", image+".replayed", dir)
			defer tool(t, "umount", dir)
			s := openImage(t, image+".used")
			if s.Dirty {
				t.Error("the journal wasn't replayed")
			}
			if o, ok := s.volume.bytes().(*overlay); !ok || len(o.at) < 10 {
				t.Error("there was next to nothing in the journal")
			}
			assertSame(t, s, dir)
		})
	}
}

// churn makes, changes and removes, so that blocks of folders become those of files:
// these are revoked.
func churn(t *testing.T, dir string) {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{3})
	p := make([]byte, 64<<10)
	for round := range 6 {
		folder := filepath.Join(dir, fmt.Sprintf("round%d", round))
		must(t, os.MkdirAll(folder, 0o755))
		for i := range 200 {
			_, _ = noise.Read(p)
			copy(p, "\xC0\x3B\x39\x98") // as a block of the journal begins
			must(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s%d", strings.Repeat("n", 60), i)), p[:1+i*300], 0o600))
		}
		tool(t, "sync")
		if round%2 == 1 {
			must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("round%d", round-1))))
		}
	}
}

// Fast commits aren't replayed, and it says so.
func TestFastCommits(t *testing.T) {
	testenv.Need(t, "ext4", "root", "loop")
	image, dir := newImage(t, 128<<20), t.TempDir()
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "fast_commit", image)
	tool(t, "mount", "-o", "loop", image, dir)
	defer tool(t, "umount", dir)
	must(t, os.WriteFile(filepath.Join(dir, "before"), []byte("before"), 0o600))
	tool(t, "sync", "-f", dir)
	file, err := os.Create(filepath.Join(dir, "after"))
	must(t, err)
	defer file.Close()
	_, err = file.WriteString("after")
	must(t, err)
	must(t, file.Sync())
	tool(t, "cp", "--sparse=always", image, image+".used")
	s := openImage(t, image+".used")
	_, err = s.Lookup("/before", false)
	must(t, err)
	if _, err := s.Lookup("/after", false); err != nil && !s.Dirty {
		t.Errorf("nothing is said of what is missing: %v", err)
	} else {
		t.Logf("dirty %v, %v", s.Dirty, err)
	}
}

// A journal that is damaged between its transactions is replayed up to there, and it says
// so: one that was being written looks the same, but for what comes behind.
func TestJournalIsDamagedWithin(t *testing.T) {
	testenv.Need(t, "ext4", "root", "loop")
	for _, flags := range []string{"-t ext4", "-t ext4 -O ^metadata_csum,^64bit"} {
		image, dir := newImage(t, 64<<20), t.TempDir()
		tool(t, "mke2fs", append(strings.Fields("-q -F "+flags), image)...)
		tool(t, "mount", "-o", "loop,commit=300", image, dir)
		func() {
			defer tool(t, "umount", dir)
			for i := range 20 {
				file, err := os.Create(filepath.Join(dir, fmt.Sprint("file", i)))
				must(t, err)
				must(t, file.Sync())
				must(t, file.Close())
			}
			tool(t, "cp", "--sparse=always", image, image+".used")
		}()
		if s := openImage(t, image+".used"); s.Dirty {
			t.Fatal("the journal wasn't replayed")
		}
		data, err := os.ReadFile(image + ".used")
		must(t, err)
		blocks := journalBlocks(t, image+".used", data)
		for _, at := range []int{blocks[len(blocks)/3], blocks[len(blocks)/2]} {
			damaged := slices.Clone(data)
			damaged[at] ^= 1
			must(t, os.WriteFile(image+".damaged", damaged, 0o600))
			if s := openImage(t, image+".damaged"); !s.Dirty {
				t.Errorf("%s: byte %d of the journal is another one, and nothing was noticed", flags, at)
			}
		}
	}
}

// journalBlocks finds the blocks of the journal that say something, by their first bytes.
func journalBlocks(t *testing.T, image string, data []byte) (at []int) {
	t.Helper()
	const size = 1024
	for i := 0; i+12 < len(data); i += size {
		if be.Uint32(data[i:]) == journalMagic && be.Uint32(data[i+4:]) <= journalRevoke && be.Uint32(data[i+8:]) > 1 {
			at = append(at, i)
		}
	}
	if len(at) < 10 {
		t.Fatalf("there is next to nothing in the journal of %s", image)
	}
	return at
}

// A journal that is damaged is left alone, and it says so.
func TestJournalIsDamaged(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	image := newImage(t, 128<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image)
	tool(t, "debugfs", "-w", "-R", "feature needs_recovery", image)
	if s := openImage(t, image); s.Dirty {
		t.Error("an empty journal was taken for a full one")
	}
	tool(t, "debugfs", "-w", "-R", "zap_block -f <8> -p 1 0", image)
	s := openImage(t, image)
	if !s.Dirty {
		t.Error("nothing was noticed")
	}
	assertSame(t, s, dir)
}
