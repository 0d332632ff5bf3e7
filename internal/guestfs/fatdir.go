package guestfs

import (
	"sync"
	"time"
	"unicode/utf16"
)

const (
	fatDeleted  = 0xE5
	fatReadOnly = 0x01
	fatLabel    = 0x08
	fatDir      = 0x10
	fatLong     = 0x0F

	// fatMaxFolder bounds folders: 65,536 entries, as the specification has it.
	fatMaxFolder = 2 << 20
	// fatFolderID marks the IDs of folders: those of files are where their entries lie.
	fatFolderID = 1 << 63

	// fatLongParts is how many entries a long name has at most.
	fatLongParts = 20
)

// A fatChain is the clusters of a file, as far as they were looked at.
type fatChain struct {
	root bool   // that of FAT12 and FAT16, which has none
	from uint32 // the first; 0 for an empty file

	mu    sync.Mutex
	runs  []fatRun
	known int64 // clusters in runs
	ended bool
	seen  map[uint32]*[64]uint64 // a bit for each cluster in runs
}

// A fatRun is clusters that follow each other.
type fatRun struct {
	begin int64 // the number of the first in the file
	at    uint32
	n     int64
}

// find gives the run that holds the i-th cluster of a file; false past the last one.
func (v *fatVolume) find(c *fatChain, i int64) (fatRun, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.known <= i && !c.ended {
		if err := v.walk(c); err != nil {
			return fatRun{}, false, err
		}
	}
	low, high := 0, len(c.runs)
	for low < high {
		if middle := (low + high) / 2; c.runs[middle].begin+c.runs[middle].n <= i {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(c.runs) {
		return fatRun{}, false, nil
	}
	return c.runs[low], true, nil
}

// mark notes a cluster, and tells whether it was noted before.
func (c *fatChain) mark(cluster uint32) (again bool) {
	if c.seen == nil {
		c.seen = make(map[uint32]*[64]uint64)
	}
	page := c.seen[cluster>>12]
	if page == nil {
		page = new([64]uint64)
		c.seen[cluster>>12] = page
	}
	word, bit := &page[cluster>>6&63], uint64(1)<<(cluster&63)
	again = *word&bit != 0
	*word |= bit
	return again
}

// walk adds the next cluster. One that is there already would give the same bytes
// again, and has no end.
func (v *fatVolume) walk(c *fatChain) error {
	cluster, ok, err := c.from, c.from != 0, error(nil)
	if last := len(c.runs) - 1; last >= 0 {
		r := c.runs[last]
		cluster, ok, err = v.next(r.at + uint32(r.n-1))
	} else if ok {
		err = v.checkCluster(cluster, -1)
	}
	if err != nil || !ok {
		c.ended = err == nil
		return err
	}
	if c.mark(cluster) {
		return corrupt(-1, "clusters that lead in a circle")
	}
	c.known++
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].at+uint32(c.runs[last].n) == cluster {
		c.runs[last].n++
		return nil
	}
	c.runs = append(c.runs, fatRun{c.known - 1, cluster, 1})
	return nil
}

// run is where a file's bytes lie. FAT has no holes.
func (v *fatVolume) run(f *File, off int64) (run, error) {
	if f.chain.root {
		return run{end: v.rootSize, at: v.rootAt + off}, nil
	}
	r, ok, err := v.find(f.chain, off/v.cluster)
	if err == nil && !ok {
		err = corrupt(-1, "a file of %d bytes ends after %d", f.Size, f.chain.known*v.cluster)
	}
	if err != nil {
		return run{}, err
	}
	begin := r.begin * v.cluster
	return run{end: begin + r.n*v.cluster, at: v.at(r.at) + off - begin}, nil
}

// slots visits the entries of a folder as they lie there, up to the first free one.
func (v *fatVolume) slots(f *File, visit func(slot *[32]byte, at int64) error) error {
	for off := int64(0); ; {
		r := run{end: v.rootSize, at: v.rootAt + off}
		if f.chain.root && off >= v.rootSize {
			return nil
		}
		if !f.chain.root {
			found, ok, err := v.find(f.chain, off/v.cluster)
			if err != nil || !ok {
				return err
			}
			begin := found.begin * v.cluster
			r = run{end: off/v.cluster*v.cluster + v.cluster, at: v.at(found.at) + off - begin}
		}
		for ; off < r.end; off, r.at = off+32, r.at+32 {
			if off >= fatMaxFolder {
				return corrupt(r.at, "a folder of more than %d entries", fatMaxFolder/32)
			}
			var slot [32]byte
			if err := v.c.read(slot[:], r.at); err != nil {
				return err
			}
			if slot[0] == 0 {
				return nil
			}
			if err := visit(&slot, r.at); err != nil {
				return err
			}
		}
	}
}

// list visits a folder. A long name lies in the entries before the one that it is of,
// last part first.
func (v *fatVolume) list(f *File, visit func(Entry) error) error {
	var long longName
	return v.slots(f, func(slot *[32]byte, at int64) error {
		switch {
		case slot[0] == fatDeleted:
			long = longName{}
			return nil
		case slot[11]&0x3F == fatLong:
			long.add(slot)
			return nil
		case slot[11]&fatLabel != 0:
			long = longName{}
			return nil
		}
		name := long.of(slot)
		long = longName{}
		if name == "" {
			name = shortName(slot)
		}
		if name == "." || name == ".." {
			return nil
		}
		if err := checkName(name, at); err != nil {
			return err
		}
		return visit(Entry{Name: name, slot: slot, number: uint64(at)})
	})
}

// A longName is the parts of one, as far as they fit together.
type longName struct {
	parts [fatLongParts][13]uint16
	n     int // how many it has
	next  int // the part that is waited for, 0 when all are there
	sum   byte
}

func (l *longName) add(slot *[32]byte) {
	number := int(slot[0] & 0x3F)
	if slot[0]&0x40 != 0 {
		*l = longName{n: number, next: number, sum: slot[13]}
	}
	if number == 0 || number > fatLongParts || number != l.next || slot[13] != l.sum {
		*l = longName{}
		return
	}
	part := &l.parts[number-1]
	for i := range part {
		at := 1 + 2*i
		if i >= 5 {
			at = 14 + 2*(i-5)
		}
		if i >= 11 {
			at = 28 + 2*(i-11)
		}
		part[i] = le.Uint16(slot[at:])
	}
	l.next--
}

// of is the long name of an entry, "" where there is none that belongs to it.
func (l *longName) of(slot *[32]byte) string {
	if l.n == 0 || l.next != 0 || l.sum != shortSum(slot) {
		return ""
	}
	var units []uint16
	for _, part := range l.parts[:l.n] {
		for _, unit := range part {
			if unit == 0 {
				return string(utf16.Decode(units))
			}
			units = append(units, unit)
		}
	}
	return string(utf16.Decode(units))
}

// shortSum ties the parts of a long name to its entry.
func shortSum(slot *[32]byte) (sum byte) {
	for _, c := range slot[:11] {
		sum = sum<<7 | sum>>1
		sum += c
	}
	return sum
}

// stat takes from an entry what it says of the file.
func (v *fatVolume) stat(e Entry) (File, error) {
	slot := e.slot
	from := uint32(le.Uint16(slot[26:]))
	if v.width == 32 {
		from |= uint32(le.Uint16(slot[20:])) << 16 & 0x0FFFFFFF
	}
	f := File{
		ID: e.number, Mode: TypeFile | 0o644, Links: 1, Size: int64(le.Uint32(slot[28:])),
		ModTime: fatTime(le.Uint16(slot[24:]), le.Uint16(slot[22:])), chain: &fatChain{from: from},
	}
	if slot[11]&fatReadOnly != 0 {
		f.Mode &^= 0o222
	}
	if slot[11]&fatDir != 0 {
		// Where a folder lies tells it from others, so that one which contains itself is noticed.
		f.Mode, f.Size, f.ID = TypeDir|0o755, 0, fatFolderID|uint64(from)
		return f, v.checkCluster(from, int64(e.number))
	}
	return f, nil
}

// fatTime reads the local time of whoever wrote it, which isn't said, as UTC.
func fatTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&0xF), int(date&0x1F), int(clock>>11), int(clock>>5&0x3F), int(clock&0x1F)*2, 0, time.UTC)
}
