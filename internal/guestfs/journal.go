package guestfs

import (
	"encoding/binary"
	"errors"
)

// The journal of ext3 and ext4, as Linux has it in include/linux/jbd2.h. All its
// numbers are big-endian.
const (
	journalMagic = 0xC03B3998

	journalDescriptor = 1
	journalCommit     = 2
	journalRevoke     = 5

	journalAsync  = 0x4 // incompat
	journal64     = 0x2
	journalV2     = 0x8
	journalV3     = 0x10
	journalFast   = 0x20
	journalKnown  = 0x1 | journal64 | journalAsync | journalV2 | journalV3 | journalFast
	journalSummed = 0x1 // compat: a checksum of each transaction, of old

	tagEscaped  = 1 // the block begins with what would be taken for a block of the journal
	tagSameUUID = 2
	tagLast     = 8
)

// errJournal is for a journal that isn't replayed: the file system is then read as it
// lies there.
var errJournal = errors.New("the journal can't be replayed")

var be = binary.BigEndian

// A journal is one that is being replayed, as Linux does when it mounts.
type journal struct {
	file     *File
	v        *extVolume
	incompat uint32
	first    uint32 // blocks [first, last) are a ring
	last     uint32
	start    uint32 // where the oldest transaction begins
	sequence uint32 // its number
	seed     uint32
	fast     bool // there may be fast commits behind the ring
}

// replayed gives the file system as it is after its journal was replayed, in memory.
// partly says that some of it could not be. Errors: errJournal, and those of reading.
func (v *extVolume) replayed(s *FileSystem, number uint64) (_ *overlay, partly bool, err error) {
	defer caught(s.Kind, "the journal", &err)
	inode, err := v.open(number)
	if err != nil {
		return nil, false, err
	}
	j := &journal{file: s.opened(inode, "the journal"), v: v}
	sb := make([]byte, 1024)
	if _, err := j.file.ReadAt(sb, 0); err != nil {
		return nil, false, err
	}
	if err := j.open(sb); err != nil {
		return nil, false, err
	}
	o := &overlay{r: v.data, journal: j.file, block: v.block, at: make(map[int64]logged)}
	if j.start == 0 {
		return o, false, nil // the last mount ended in good order
	}
	end, revoked, err := j.scan()
	if err != nil {
		return nil, false, err
	}
	err = j.walk(end, func(sequence, position uint32, p []byte) error {
		if be.Uint32(p[4:]) != journalDescriptor {
			return nil
		}
		return j.tags(p, position, func(t tag) error { return j.replay(o, revoked, sequence, t) })
	})
	if err == nil {
		partly, err = j.goesOn(end)
	}
	if err == nil && !partly && j.fast {
		partly, err = j.fastCommits(end)
	}
	return o, partly, err
}

// goesOn tells whether the journal has more behind the last transaction that could be
// replayed than what was being written when it was copied: then it is damaged there. Of a
// transaction that was being written there is no commit yet, and of later ones nothing.
func (j *journal) goesOn(end uint32) (bool, error) {
	const piece = 1 << 20
	limit := int64(j.last) * j.v.block
	p := make([]byte, piece)
	for at := int64(j.first) * j.v.block; at < limit; at += piece {
		p = p[:min(piece, limit-at)]
		if _, err := j.file.ReadAt(p, at); err != nil {
			return false, err
		}
		for b := p; len(b) > 0; b = b[j.v.block:] {
			if be.Uint32(b) != journalMagic {
				continue
			}
			past := int32(be.Uint32(b[8:]) - end)
			if past > 0 || past == 0 && be.Uint32(b[4:]) == journalCommit {
				return true, nil
			}
		}
	}
	return false, nil
}

// fastCommits tells whether there are some behind the last transaction. They are a format
// of their own, and not replayed. They begin one block behind the ring.
func (j *journal) fastCommits(end uint32) (bool, error) {
	const headTag = 9 // the tag, the length, features, and the transaction, little-endian
	p, err := j.read(j.last + 1)
	return err == nil && le.Uint16(p) == headTag && le.Uint32(p[8:]) == end, err
}

func (j *journal) open(sb []byte) error {
	kind := be.Uint32(sb[4:])
	j.incompat, j.first, j.last = be.Uint32(sb[0x28:]), be.Uint32(sb[0x14:]), be.Uint32(sb[0x10:])
	j.sequence, j.start = be.Uint32(sb[0x18:]), be.Uint32(sb[0x1C:])
	if kind == 3 { // the old superblock has no features
		j.incompat = 0
	}
	old := kind == 4 && be.Uint32(sb[0x24:])&journalSummed != 0 && !j.summed()
	switch {
	case be.Uint32(sb) != journalMagic, kind != 3 && kind != 4, int64(be.Uint32(sb[0xC:])) != j.v.block,
		int64(j.last)*j.v.block > min(j.file.Size, j.v.c.size), j.incompat&^journalKnown != 0, old && j.incompat&journalAsync != 0:
		return errJournal
	}
	if j.incompat&journalFast != 0 {
		fast := be.Uint32(sb[0x54:])
		if fast == 0 {
			fast = 256
		}
		if fast >= j.last {
			return errJournal
		}
		j.last, j.fast = j.last-fast, true
	}
	if j.start != 0 && (j.first == 0 || j.start < j.first || j.start >= j.last) {
		return errJournal
	}
	if j.summed() {
		stored := be.Uint32(sb[0xFC:])
		clear(sb[0xFC:0x100])
		if sb[0x50] != 4 || sum(^uint32(0), sb) != stored {
			return errJournal
		}
		j.seed = sum(^uint32(0), sb[0x30:0x40])
	}
	return nil
}

func (j *journal) summed() bool { return j.incompat&(journalV2|journalV3) != 0 }

// next is the position behind one in the ring.
func (j *journal) next(position uint32) uint32 {
	if position++; position >= j.last {
		position = j.first
	}
	return position
}

func (j *journal) read(position uint32) ([]byte, error) {
	p := make([]byte, j.v.block)
	_, err := j.file.ReadAt(p, int64(position)*j.v.block)
	return p, err
}

// scan finds the number past the last transaction that was committed, and which
// blocks were revoked, last in which transaction.
func (j *journal) scan() (end uint32, revoked map[uint64]uint32, err error) {
	revoked = make(map[uint64]uint32)
	pending := make(map[uint64]bool) // of a transaction that isn't committed yet
	end = j.sequence
	err = j.walk(0, func(sequence, _ uint32, p []byte) error {
		switch be.Uint32(p[4:]) {
		case journalRevoke:
			return j.revocations(p, func(block uint64) { pending[block] = true })
		case journalCommit:
			end = sequence + 1
			for block := range pending {
				revoked[block] = sequence
			}
			clear(pending)
		}
		return nil
	})
	return end, revoked, err
}

// walk visits the blocks of the journal that say something, up to the transaction end,
// 0 for as far as they go on. What doesn't go on, or differs from its checksum, is the
// end of it: that was being written.
func (j *journal) walk(end uint32, visit func(sequence, position uint32, p []byte) error) error {
	position, sequence := j.start, j.sequence
	for used := j.first; used < j.last; used++ {
		if end != 0 && sequence == end {
			return nil
		}
		p, err := j.read(position)
		if err != nil {
			return err
		}
		if be.Uint32(p) != journalMagic || be.Uint32(p[8:]) != sequence {
			return nil
		}
		kind := be.Uint32(p[4:])
		if kind != journalDescriptor && kind != journalRevoke && kind != journalCommit || !j.intact(kind, p) {
			return nil
		}
		if err := visit(sequence, position, p); err != nil {
			return err
		}
		position = j.next(position)
		switch kind {
		case journalDescriptor: // the blocks that it lists lie behind it
			err = j.tags(p, 0, func(tag) error {
				position = j.next(position)
				used++
				return nil
			})
			if err != nil {
				return err
			}
		case journalCommit:
			sequence++
		}
	}
	return nil
}

// replay notes where a block has its newer contents.
func (j *journal) replay(o *overlay, revoked map[uint64]uint32, sequence uint32, t tag) error {
	if last, ok := revoked[t.block]; ok && int32(last-sequence) >= 0 {
		return nil
	}
	if t.block >= j.v.blocks {
		return errJournal
	}
	if j.summed() {
		p, err := j.read(t.position)
		if err != nil {
			return err
		}
		got := sum(sum(j.seed, be.AppendUint32(nil, sequence)), p)
		if j.incompat&journalV3 == 0 {
			got &= 0xFFFF
		}
		if got != t.sum {
			return errJournal
		}
	}
	o.at[int64(t.block)] = logged{t.position, t.escaped}
	return nil
}
