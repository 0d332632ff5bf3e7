package mount

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/model"
)

// packedDayNames are the packers of which TestPacked… change files under a mount: one
// for each codec, and an archive.
func packedDayNames() []string {
	return []string{"gzip", "bgzip", "zstd", "lz4", "xz-blocks", "bzip2", "tar.gz"}
}

// A packedDay is an image with a raw export and an increment that are packed.
type packedDay struct {
	t        *testing.T
	m        *Mount
	p        packer
	image    string
	path     string // of the raw export
	old, now []byte
	// What was opened while the old bytes were there.
	opened, direct *os.File
}

// packedDays mounts an image for each packer, reads some, and keeps them open.
func packedDays(t *testing.T) (*Mount, []*packedDay) {
	t.Helper()
	testenv.Need(t, "packers")
	repo := t.TempDir()
	var days []*packedDay
	for i, name := range packedDayNames() {
		d := &packedDay{
			t: t, p: packerOf(t, name), image: "vm/" + name,
			old: words(5<<19 + i), now: bytes.ToUpper(words(5<<19 - i)),
		}
		d.old[0], d.now[0] = '-', '+'
		d.path = d.p.put(t, filepath.Join(repo, d.image), "day.raw", d.old)
		d.p.put(t, filepath.Join(repo, d.image), "day..eve.diff", compiled(t, `diff1 f "day" t "eve" s 3M w 100~50 e`))
		days = append(days, d)
	}
	// The raw exports are smaller than the image is afterwards.
	m := Start(t, repo, Options{Flags: trusting.Flags, Changing: true, Expected: []string{""}})
	for i, d := range days {
		d.m = m
		// Of the others neither the kernel nor the daemon has anything unpacked when their
		// files change.
		if i%2 == 0 {
			d.checkServed(d.old)
		}
		d.opened = open(t, m.Image(d.image, "day"))
		var err error
		if d.direct, err = os.OpenFile(m.Image(d.image, "day"), os.O_RDONLY|syscall.O_DIRECT, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.direct.Close() })
	}
	return m, days
}

// eve is what the increment makes of the raw export.
func eve(day []byte) []byte {
	data := append(bytes.Clone(day), make([]byte, 3<<20-len(day))...)
	copy(data[100:150], strings.Repeat("W", 50))
	return data
}

// checkServed compares both snapshots.
func (d *packedDay) checkServed(day []byte) {
	d.t.Helper()
	CheckImage(d.t, d.m.Image(d.image, "day"), &model.State{Bytes: day, Raw: true})
	CheckImage(d.t, d.m.Image(d.image, "eve"), &model.State{Bytes: eve(day), Raw: true})
}

// checkOpened reads what was opened before the change, a piece at a time: what can be
// read is what it was. The kernel rightly keeps pages of it, but for direct reads.
func (d *packedDay) checkOpened() {
	d.t.Helper()
	const piece = 64 << 10
	buf := make([]byte, piece)
	for _, f := range []*os.File{d.direct, d.opened} {
		for off := int64(0); off < int64(len(d.old)); off += piece {
			n, err := f.ReadAt(buf, off)
			want := d.old[off:min(off+piece, int64(len(d.old)))]
			if errors.Is(err, syscall.EIO) {
				continue
			}
			if err != nil && err != io.EOF || !bytes.Equal(buf[:n], want) {
				d.t.Fatalf("%s, opened before the change: read of %d at %d gives %d and %v, or other bytes", f.Name(), len(want), off, n, err)
			}
		}
	}
}

// replaced waits for the new bytes, and never sees others than the old or the new ones.
func (d *packedDay) replaced() {
	d.t.Helper()
	for name, of := range map[string]func([]byte) []byte{"day": bytes.Clone, "eve": eve} {
		await(d.t, d.m, "the new bytes of "+d.image+"@"+name, func() bool {
			d.checkOpened()
			data, err := os.ReadFile(d.m.Image(d.image, name))
			if err == nil && !bytes.Equal(data, of(d.old)) && !bytes.Equal(data, of(d.now)) {
				d.t.Fatalf("%s@%s: old and new bytes are mixed", d.image, name)
			}
			return err == nil && bytes.Equal(data, of(d.now))
		})
	}
	d.checkServed(d.now)
	d.checkOpened()
}

// TestPackedReplaced renames other compressed files over those that are served.
func TestPackedReplaced(t *testing.T) {
	_, days := packedDays(t)
	for _, d := range days {
		fresh := d.path + ".tmp"
		write(t, fresh, d.p.bytes(t, "day.raw", d.now))
		if err := os.Rename(fresh, d.path); err != nil {
			t.Fatal(err)
		}
		d.checkOpened()
	}
	for _, d := range days {
		d.replaced()
	}
}

// TestPackedWrittenOver writes other compressed files into those that are served. The
// old bytes are gone then: reads of them fail, but for what the daemon still has.
func TestPackedWrittenOver(t *testing.T) {
	_, days := packedDays(t)
	for _, d := range days {
		write(t, d.path, d.p.bytes(t, "day.raw", d.now))
		d.checkOpened()
	}
	for _, d := range days {
		d.replaced()
		dropPages(t, d.opened)
		d.checkOpened()
	}
}

// TestPackedTruncated cuts files off while they are served. In the middle of what is
// compressed nothing can be told from nothing, so all of it is withheld, with what
// builds on it, until the file is whole again.
func TestPackedTruncated(t *testing.T) {
	m, days := packedDays(t)
	whole := map[string][]byte{}
	for _, d := range days {
		data, err := os.ReadFile(d.path)
		if err != nil {
			t.Fatal(err)
		}
		whole[d.path] = data
		if err := os.Truncate(d.path, int64(len(data)/2)); err != nil {
			t.Fatal(err)
		}
		d.checkOpened()
	}
	for _, d := range days {
		file := d.image + "/" + filepath.Base(d.path)
		await(t, m, file+" is reported", func() bool {
			d.checkOpened()
			p, found := problemWith(m, file)
			return found && slices.Contains([]string{"incomplete", "damaged"}, p.Kind) && p.Cure != ""
		})
		for _, name := range []string{"day", "eve"} {
			await(t, m, d.image+"@"+name+" is withheld", absent(m.Image(d.image, name)))
		}
		dropPages(t, d.opened)
		d.checkOpened()
	}
	if _, code := List(t, m.Dir); code != 3 {
		t.Errorf("ls ends with %d, want 3", code)
	}
	for _, d := range days {
		write(t, d.path, whole[d.path])
	}
	for _, d := range days {
		await(t, m, d.image+" is there again", exists(m.Image(d.image, "eve")))
		d.checkServed(d.old)
	}
}

// TestPackedOtherName gives files another name, by which the same bytes hold another
// thing: an archive is an image like any other bytes, until its name says archive.
func TestPackedOtherName(t *testing.T) {
	testenv.Need(t, "packers")
	repo := t.TempDir()
	raw := words(3 << 20)
	archive := packerOf(t, "tar").bytes(t, "day.raw", raw)
	for name, p := range map[string]packer{"gzip": packerOf(t, "gzip"), "zstd": packerOf(t, "zstd")} {
		p.put(t, filepath.Join(repo, name), "day.raw", archive)
	}
	place(t, filepath.Join(repo, "plain", "day.raw"), archive)
	m := Start(t, repo, Options{Changing: true})
	names := map[string][2]string{
		"gzip": {"day.raw.gz", "day.raw.tar.gz"}, "zstd": {"day.raw.zst", "day.raw.tar.zst"}, "plain": {"day.raw", "day.raw.tar"},
	}
	for image, name := range names {
		CheckImage(t, m.Image(image, "day"), &model.State{Bytes: archive, Raw: true})
		if err := os.Rename(filepath.Join(repo, image, name[0]), filepath.Join(repo, image, name[1])); err != nil {
			t.Fatal(err)
		}
	}
	for image := range names {
		await(t, m, image+" is what is in the archive", func() bool {
			info, err := os.Stat(m.Image(image, "day"))
			return err == nil && info.Size() == int64(len(raw))
		})
		CheckImage(t, m.Image(image, "day"), &model.State{Bytes: raw, Raw: true})
	}
	if err := unix.Unmount(m.Dir, 0); err != nil {
		t.Fatal(err)
	}
	m.assertExited()
	m.Again()
	for image := range names {
		CheckImage(t, m.Image(image, "day"), &model.State{Bytes: raw, Raw: true})
	}
}
