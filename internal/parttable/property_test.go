package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/property"
)

// maxReads is how often Read may read: all EBRs, or the headers and entries of four GPTs.
const maxReads = 1 + max(maxLinks, 4*(1+maxEntries*gptEntry/maxRead))

// A watcher sees what is read.
type watcher struct {
	io.ReaderAt
	size   int64
	reads  int
	failAt int // the read that fails, from 1 on
	err    error
	wrong  error
}

func (w *watcher) ReadAt(p []byte, off int64) (int, error) {
	w.reads++
	if off < 0 || int64(len(p)) > w.size-off || len(p) > maxRead {
		w.wrong = fmt.Errorf("%d bytes are read at %d of %d", len(p), off, w.size)
	}
	if w.reads == w.failAt {
		return 0, w.err
	}
	return w.ReaderAt.ReadAt(p, off)
}

// check holds what Read promises of any disk.
func check(r io.ReaderAt, size int64) error {
	w := &watcher{ReaderAt: r, size: size}
	table, err := Read(w, size)
	switch {
	case w.wrong != nil:
		return w.wrong
	case w.reads > maxReads:
		return fmt.Errorf("%d reads", w.reads)
	case err != nil && (!errors.Is(err, ErrDamaged) || table.Scheme != "" || table.Partitions != nil):
		return fmt.Errorf("%+v and error %w", table, err)
	case table.Scheme == "" && table.Partitions != nil || table.Scheme == MBR && table.Partitions == nil:
		return fmt.Errorf("%+v", table)
	}
	before := 0
	for _, p := range table.Partitions {
		if p.Number <= before || p.Number > maxNumber || p.Off < 0 || p.Size <= 0 || p.Off > size || p.Size > size-p.Off {
			return fmt.Errorf("%+v after %d on a disk of %d", p, before, size)
		}
		before = p.Number
	}
	return nil
}

// drawMBR draws entries that mostly point to sectors of a small disk.
func drawMBR(t *rapid.T, d testDisk) {
	sectors := rapid.OneOf(rapid.Uint32Range(0, uint32(len(d)/512)+2), rapid.Uint32())
	kinds := rapid.SampledFrom([]uint32{0, 0x83, typeExtended, typeExtendedLBA, typeExtendedLinux, typeExtended})
	for at := range int64(len(d) / 512) {
		var list [][4]uint32
		for range rapid.IntRange(0, 4).Draw(t, "entries") {
			list = append(list, [4]uint32{0, kinds.Draw(t, "type"), sectors.Draw(t, "start"), sectors.Draw(t, "count")})
		}
		d.mbr(at, list...)
	}
}

// drawGPT draws a GPT of which some fields hold anything, under right checksums.
func drawGPT(t *rapid.T, d testDisk) {
	sector := rapid.SampledFrom([]uint64{512, 4096}).Draw(t, "sector")
	sectors := rapid.OneOf(rapid.Uint64Range(0, uint64(len(d))/sector+2), rapid.Uint64())
	var parts []gptPart
	for range rapid.IntRange(0, 5).Draw(t, "partitions") {
		parts = append(parts, gptPart{sectors.Draw(t, "first"), sectors.Draw(t, "last")})
	}
	d.gpt(sector, parts...)
	for _, lba := range []uint64{1, uint64(len(d))/sector - 1} {
		h := d[lba*sector:]
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			switch at := rapid.SampledFrom([]int{12, 24, 40, 48, 72, 80, 84, 0}).Draw(t, "field"); at {
			case 12, 80, 84:
				binary.LittleEndian.PutUint32(h[at:], rapid.OneOf(rapid.Uint32Range(0, 1024), rapid.Uint32()).Draw(t, "value"))
			default:
				binary.LittleEndian.PutUint64(h[at:], sectors.Draw(t, "value"))
			}
		}
		if rapid.IntRange(0, 9).Draw(t, "seal") > 0 {
			d.seal(sector, lba)
		}
	}
}

// TestAnyDisk: whatever is on a disk, Read ends, reads on it alone, and returns what is
// on it.
func TestAnyDisk(t *testing.T) {
	property.Often(t, 20, func(t *rapid.T) {
		d := make(testDisk, 20*512+rapid.IntRange(0, 511).Draw(t, "odd"))
		if rapid.Bool().Draw(t, "gpt") {
			d = make(testDisk, 40*4096+rapid.IntRange(0, 4095).Draw(t, "odd"))
			drawGPT(t, d)
		} else {
			drawMBR(t, d)
		}
		size := int64(len(d))
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			size = rapid.Int64Range(0, size).Draw(t, "size")
		}
		if err := check(bytes.NewReader(d), size); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRead is the same for changes of a disk with an MBR or a GPT. seal makes the
// checksums right afterwards, which no fuzzer would guess.
func FuzzRead(f *testing.F) {
	f.Add(byte(0), []byte{0, 1, 0xbe, 3, 0, 0, 0}, uint16(0), false)
	f.Add(byte(1), []byte{1, 0, 80, 4, 0, 2, 0, 0}, uint16(0), true)
	f.Add(byte(2), []byte{8, 0, 72, 1, 3, 127, 0, 40, 8, 1, 0, 0, 0, 0, 0, 0, 0}, uint16(512), true)
	f.Add(byte(3), []byte{2, 0, 40, 1, 9, 1, 0, 40, 1, 1}, uint16(1), false)
	f.Fuzz(func(t *testing.T, kind byte, changes []byte, cut uint16, seal bool) {
		d := make(testDisk, 128*512)
		sector := uint64(512)
		switch kind % 3 {
		case 0:
			d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 10, 30})
			d.mbr(10, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 20, 10})
			d.mbr(30, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 10, 10})
		case 1:
			d.gpt(512, gptPart{70, 80})
		case 2:
			sector = 4096
			d.gpt(4096, gptPart{7, 8})
		}
		// Each change is a sector, an offset in it, a length, and bytes.
		for len(changes) > 4 {
			at := d[512*int(changes[0]%128)+int(binary.BigEndian.Uint16(changes[1:])%512):]
			n := min(int(changes[3]), len(changes)-4)
			copy(at, changes[4:4+n])
			changes = changes[4+n:]
		}
		if seal {
			d.seal(sector, 1)
			d.seal(sector, uint64(len(d))/sector-1)
		}
		if err := check(bytes.NewReader(d), int64(len(d)-int(cut))); err != nil {
			t.Fatal(err)
		}
	})
}
