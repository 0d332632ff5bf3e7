package guestfs

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// What others make is recognised, and refused with its name.
func TestOthersAreRefused(t *testing.T) {
	for kind, c := range map[string]struct {
		need string
		size int64
		make []string // the image comes last
	}{
		"xfs":   {"xfs", 400 << 20, []string{"mkfs.xfs", "-q", "-f"}},
		"btrfs": {"btrfs", 200 << 20, []string{"mkfs.btrfs", "-q", "-f"}},
		"ntfs":  {"ntfs", 8 << 20, []string{"mkfs.ntfs", "-q", "-F", "-Q"}},
		"swap":  {"program:mkswap", 8 << 20, []string{"mkswap"}},
	} {
		t.Run(kind, func(t *testing.T) {
			testenv.Need(t, c.need)
			image := newImage(t, c.size)
			tool(t, c.make[0], append(c.make[1:], image)...)
			file, err := os.Open(image)
			must(t, err)
			defer file.Close()
			if got, err := Identify(file, c.size); got != kind || err != nil {
				t.Errorf("it is taken for %q (%v)", got, err)
			}
			_, err = Open(file, c.size)
			if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != kind || !errors.Is(err, ErrUnsupported) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Marks that can't be made here lie where they are looked for.
func TestMarks(t *testing.T) {
	for _, m := range marks() {
		p := make([]byte, 4<<20)
		copy(p[m.at:], m.text)
		if got, err := Identify(bytes.NewReader(p), int64(len(p))); got != m.kind || err != nil {
			t.Errorf("%s at %d is taken for %q (%v)", m.kind, m.at, got, err)
		}
	}
	for _, p := range [][]byte{nil, make([]byte, 511), make([]byte, 1<<20), bytes.Repeat([]byte{0x55}, 1<<20)} {
		if got, err := Identify(bytes.NewReader(p), int64(len(p))); got != "" || err != nil {
			t.Errorf("%d bytes are taken for %q (%v)", len(p), got, err)
		}
		if _, err := Open(bytes.NewReader(p), int64(len(p))); !errors.Is(err, ErrNone) {
			t.Errorf("%d bytes: %v", len(p), err)
		}
	}
}

// A cutReader ends where it is told to.
type cutReader struct {
	p     []byte
	limit int64
}

func (r *cutReader) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(r.p[:r.limit]).ReadAt(p, off)
}

// An image that was cut off is read as far as it goes.
func TestCutOff(t *testing.T) {
	testenv.Need(t, "ext4")
	dir := makeTree(t)
	image := newImage(t, 128<<20)
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, image)
	whole, err := os.ReadFile(image)
	must(t, err)
	r := &cutReader{whole, int64(len(whole))}
	s, err := Open(r, r.limit)
	must(t, err)
	f, err := s.Lookup("/big/noise", false)
	must(t, err)
	middle, err := f.next(1 << 20)
	must(t, err)
	r.limit = middle.at
	p := make([]byte, 2<<20)
	n, err := f.ReadAt(p, 0)
	if !errors.Is(err, ErrCorrupt) || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := f.ReadAt(p[:1<<20], 0); err != nil {
		t.Error(err)
	}
}
