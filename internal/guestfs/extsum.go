package guestfs

import "hash/crc32"

// castagnoli is the polynomial of ext4's checksums.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once, by crc32

// sum is crc32c as the kernel has it: neither end is inverted.
func sum(seed uint32, p []byte) uint32 { return ^crc32.Update(^seed, castagnoli(), p) }

func le32(n uint32) []byte { return le.AppendUint32(nil, n) }

// checkInode compares an inode with its checksum.
func (v *extVolume) checkInode(number uint32, raw []byte, at int64) (seed uint32, err error) {
	if !v.summed() {
		return 0, nil
	}
	seed = sum(sum(v.seed, le32(number)), raw[0x64:0x68])
	stored, mask := uint32(le.Uint16(raw[0x7C:])), uint32(0xFFFF)
	p := append([]byte(nil), raw...)
	le.PutUint16(p[0x7C:], 0)
	if extra := extraSize(raw); extra >= 4 {
		stored, mask = stored|uint32(le.Uint16(raw[0x82:]))<<16, ^uint32(0)
		le.PutUint16(p[0x82:], 0)
	}
	if sum(seed, p)&mask != stored {
		return 0, corrupt(at, "inode %d differs from its checksum", number)
	}
	return seed, nil
}

// extraSize is how much of an inode lies behind its first 128 bytes, attributes
// apart.
func extraSize(raw []byte) int {
	if len(raw) <= 128 {
		return 0
	}
	return min(int(le.Uint16(raw[0x80:])), len(raw)-128)
}

// checkFolderBlock compares a block of a folder with its checksum, which lies in
// what looks like a last, empty entry.
func (v *extVolume) checkFolderBlock(in *inode, p []byte, at int64) error {
	if !v.summed() {
		return nil
	}
	if offset := indexOffset(p); offset > 0 && in.flags&inodeIndex != 0 {
		return v.checkIndexBlock(in, p, offset, at)
	}
	tail := p[len(p)-12:]
	if le.Uint32(tail) != 0 || le.Uint16(tail[4:]) != 12 || tail[6] != 0 || tail[7] != 0xDE {
		return corrupt(at, "a block of a folder without a checksum")
	}
	if sum(in.seed, p[:len(p)-12]) != le.Uint32(tail[8:]) {
		return corrupt(at, "a block of a folder differs from its checksum")
	}
	return nil
}

// indexOffset is where the index of hashes begins in a block of a folder, 0 for
// one without. Read in order it looks like one long entry.
func indexOffset(p []byte) int {
	switch first := recordLength(p, len(p)); {
	case le.Uint32(p) == 0 && first == len(p):
		return 8
	case first == 12 && recordLength(p[12:], len(p)) == len(p)-12 && p[6] == 1 && p[8] == '.':
		return 32
	}
	return 0
}

func (v *extVolume) checkIndexBlock(in *inode, p []byte, offset int, at int64) error {
	limit, count := int(le.Uint16(p[offset:])), int(le.Uint16(p[offset+2:]))
	tail := offset + limit*8
	if count > limit || tail+8 > len(p) {
		return corrupt(at, "the index of a folder that can't be")
	}
	got := sum(in.seed, p[:offset+count*8])
	got = sum(sum(got, p[tail:tail+4]), le32(0))
	if got != le.Uint32(p[tail+4:]) {
		return corrupt(at, "the index of a folder differs from its checksum")
	}
	return nil
}
