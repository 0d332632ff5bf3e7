package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
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

// FuzzRead is the same for bytes: those at the beginning and at the end of a disk that
// is otherwise empty. seal makes the checksums right, which no fuzzer would guess.
func FuzzRead(f *testing.F) {
	d := make(testDisk, 128*512)
	d.gpt(512, gptPart{70, 80})
	f.Add([]byte(d[:34*512]), []byte(d[len(d)-33*512:]), uint32(128*512), true)
	d = make(testDisk, 40*512)
	d.mbr(0, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 10, 30})
	d.mbr(10, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 20, 10})
	d.mbr(30, [4]uint32{0, 0x83, 1, 9}, [4]uint32{0, typeExtended, 0, 10})
	f.Add([]byte(d), []byte{}, uint32(len(d)), false)
	f.Fuzz(func(t *testing.T, head, tail []byte, size uint32, seal bool) {
		d := make(testDisk, min(size, 1<<18))
		copy(d, head)
		copy(d[max(0, len(d)-len(tail)):], tail)
		if seal {
			for _, sector := range []uint64{512, 4096} {
				for _, lba := range slices.Compact([]uint64{1, uint64(len(d))/sector - 1}) {
					if lba != 0 && lba < uint64(len(d))/sector {
						d.seal(sector, lba)
					}
				}
			}
		}
		if err := check(bytes.NewReader(d), int64(len(d))); err != nil {
			t.Fatal(err)
		}
	})
}
