package parttable

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Types of entries of an MBR.
const (
	typeExtended      = 0x05
	typeExtendedLBA   = 0x0f
	typeExtendedLinux = 0x85
	typeProtective    = 0xee // of a GPT
)

// maxLinks bounds the sectors that are read for logical partitions, of which there
// are 251 at most; some may be empty.
const maxLinks = 512

// An entry is one of the four of an MBR or EBR.
type entry struct {
	boot, kind   byte
	start, count int64 // sectors; what start counts from depends
}

func (e entry) extended() bool {
	return e.kind == typeExtended || e.kind == typeExtendedLBA || e.kind == typeExtendedLinux
}

// hasSignature tells whether a sector ends as an MBR, an EBR and boot sectors do.
func hasSignature(sector []byte) bool { return sector[510] == 0x55 && sector[511] == 0xaa }

func mbrEntries(sector []byte) (list [4]entry) {
	for i := range list {
		b := sector[446+16*i:]
		list[i] = entry{
			boot: b[0], kind: b[4],
			start: int64(binary.LittleEndian.Uint32(b[8:])), count: int64(binary.LittleEndian.Uint32(b[12:])),
		}
	}
	return list
}

// An mbrReader collects the partitions of an MBR.
type mbrReader struct {
	disk  disk
	list  []Partition
	next  int            // number of the next logical partition
	links int            // EBRs read
	seen  map[int64]bool // sectors that were read as MBR or EBR
}

// readMBR gives the partitions of an MBR with these entries.
func readMBR(d disk, entries [4]entry) (Table, error) {
	m := &mbrReader{disk: d, next: len(entries) + 1, seen: map[int64]bool{0: true}}
	for i, e := range entries {
		if !e.extended() {
			m.add(i+1, e.start, e.count, e.kind)
			continue
		}
		// Linux keeps file systems from being made on it by showing two sectors.
		m.add(i+1, e.start, min(e.count, 2), e.kind)
		if e.count > 0 {
			if err := m.logical(e); err != nil {
				return Table{}, err
			}
		}
	}
	if len(m.list) == 0 {
		return Table{}, nil
	}
	slices.SortFunc(m.list, func(a, b Partition) int { return cmp.Compare(a.Number, b.Number) })
	return Table{Scheme: MBR, Partitions: m.list}, nil
}

// add adds a partition, unless nothing of it is on the disk.
func (m *mbrReader) add(number int, start, count int64, kind byte) {
	if off, size, ok := m.disk.within(start, count); ok {
		m.list = append(m.list, Partition{Number: number, Off: off, Size: size, Type: fmt.Sprintf("0x%02x", kind)})
	}
}

// logical adds the partitions in an extended one: a list of EBRs, each with a partition,
// that counts from the EBR, and the next EBR, that counts from the extended partition.
// The list ends where it can't be followed.
func (m *mbrReader) logical(outer entry) error {
	at, count := outer.start, outer.count
	for !m.seen[at] && m.links < maxLinks {
		m.seen[at] = true
		m.links++
		sector, err := m.disk.sector(at)
		if err != nil {
			return err
		}
		if sector == nil || !hasSignature(sector) {
			return nil
		}
		entries := mbrEntries(sector)
		if !m.addAll(outer, entries, at, count) {
			return nil
		}
		i := slices.IndexFunc(entries[:], func(e entry) bool { return e.extended() && e.count > 0 })
		if i < 0 {
			return nil
		}
		at, count = outer.start+entries[i].start, entries[i].count
	}
	return nil
}

// addAll adds the partitions of the EBR at a sector, which has count of them. It
// returns false once all numbers are used.
func (m *mbrReader) addAll(outer entry, entries [4]entry, at, count int64) bool {
	for i, e := range entries {
		if e.count == 0 || e.extended() {
			continue
		}
		start := at + e.start
		// The first two are for the partition and the link. The others are used by OS/2,
		// and hold anything elsewhere.
		if i >= 2 && (e.start+e.count > count || start+e.count > outer.start+outer.count) {
			continue
		}
		if m.next > maxNumber {
			return false
		}
		// One that isn't on the disk has its number all the same.
		m.add(m.next, start, e.count, e.kind)
		m.next++
	}
	return true
}
