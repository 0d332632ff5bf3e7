package parttable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf16"
)

const (
	gptSignature = "EFI PART"
	gptHeader    = 92  // bytes of the header that are defined
	gptEntry     = 128 // bytes; Linux takes no others
	// maxEntries is what Linux takes: 4 MiB of entries, of which it shows 255.
	maxEntries = 4 << 20 / gptEntry
	// maxRead is how much of the entries is read at once.
	maxRead = 64 << 10
)

// A header is what a GPT header says.
type header struct {
	pos     int64 // of the header, bytes
	entries int64 // where they begin, bytes
	count   int64 // of the entries
	crc     uint32
}

// readGPT gives the partitions of a GPT. The header doesn't say how large a sector is:
// where it lies does.
func readGPT(d disk) (Table, error) {
	var found *Error
	for _, sector := range []int64{sectorSize, 4096} {
		for _, lba := range []int64{1, d.size/sector - 1} {
			if lba < 1 {
				continue
			}
			list, err := readGPTAt(d, sector, lba)
			if err == nil {
				return Table{Scheme: GPT, Partitions: list}, nil
			}
			var e *Error
			if !errors.As(err, &e) {
				return Table{}, err
			}
			switch {
			case found == nil || found.Reason == noHeader && e.Reason != noHeader:
				found = e
			case e.Reason != noHeader:
				found.Reason += fmt.Sprintf("; at byte %d: %s", e.Pos, e.Reason)
			}
		}
	}
	if found == nil {
		found = damaged(sectorSize, noHeader)
	}
	return Table{}, found
}

const noHeader = "no GPT header, though the MBR says that there is one"

// readGPTAt gives the partitions of the GPT whose header is at lba.
func readGPTAt(d disk, sector, lba int64) ([]Partition, error) {
	h, err := readHeader(d, sector, lba)
	if err != nil {
		return nil, err
	}
	var list []Partition
	sum := crc32.NewIEEE()
	last := d.size/sector - 1
	for first := int64(0); first < h.count; first += maxRead / gptEntry {
		n := min(h.count-first, maxRead/gptEntry)
		b, err := d.read(h.entries+first*gptEntry, int(n*gptEntry))
		if err != nil {
			return nil, err
		}
		if b == nil {
			return nil, damaged(h.entries, "the entries of the GPT reach past the end of the disk")
		}
		_, _ = sum.Write(b)
		for i := range min(n, maxNumber-first) {
			if p, ok := decodeEntry(b[i*gptEntry:][:gptEntry], sector, last); ok {
				p.Number = int(first + i + 1)
				list = append(list, p)
			}
		}
	}
	if sum.Sum32() != h.crc {
		return nil, damaged(h.entries, "the entries of the GPT differ from their checksum in the header at byte %d", h.pos)
	}
	return list, nil
}

// readHeader reads and checks the header at lba.
func readHeader(d disk, sector, lba int64) (*header, error) {
	pos := lba * sector
	b, err := d.read(pos, int(sector))
	if err != nil {
		return nil, err
	}
	if b == nil || string(b[:8]) != gptSignature {
		return nil, damaged(pos, noHeader)
	}
	size := int64(binary.LittleEndian.Uint32(b[12:]))
	if size < gptHeader || size > sector {
		return nil, damaged(pos, "a GPT header of %d bytes", size)
	}
	want := binary.LittleEndian.Uint32(b[16:])
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:size]) != want {
		return nil, damaged(pos, "the GPT header differs from its checksum")
	}
	field := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	own, first, last, entries := field(24), field(40), field(48), field(72)
	count, entrySize := int64(binary.LittleEndian.Uint32(b[80:])), binary.LittleEndian.Uint32(b[84:])
	end := uint64(d.size/sector - 1)
	switch {
	case own != uint64(lba):
		return nil, damaged(pos, "a GPT header that belongs into sector %d", own)
	case first > end || last > end || first > last:
		return nil, damaged(pos, "the sectors from %d to %d that the GPT says can be used aren't those of a disk of %d", first, last, end+1)
	case entrySize != gptEntry:
		return nil, damaged(pos, "GPT entries of %d bytes", entrySize)
	case count == 0 || count > maxEntries:
		return nil, damaged(pos, "%d GPT entries", count)
	case entries > end:
		return nil, damaged(pos, "the GPT entries begin at sector %d, past the end of the disk", entries)
	}
	return &header{
		pos: pos, entries: int64(entries) * sector, count: count,
		crc: binary.LittleEndian.Uint32(b[88:]),
	}, nil
}

// decodeEntry decodes an entry; ok is false for one that is free or, as in Linux, not
// all on the disk, whose last sector is given.
func decodeEntry(b []byte, sector, last int64) (p Partition, ok bool) {
	kind := [16]byte(b)
	first, end := binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[40:])
	if kind == ([16]byte{}) || first > end || end > uint64(last) {
		return p, false
	}
	p.Off, p.Size = int64(first)*sector, int64(end-first+1)*sector
	p.Type = guid(kind)
	var name [36]uint16
	for i := range name {
		name[i] = binary.LittleEndian.Uint16(b[56+2*i:])
	}
	units := name[:]
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	p.Name = string(utf16.Decode(units))
	return p, true
}

// guid writes a GUID as it is on disk: three numbers in little endian, and eight bytes.
func guid(b [16]byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x",
		binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:])
}
