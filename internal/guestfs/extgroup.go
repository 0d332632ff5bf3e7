package guestfs

// inodeTable is the first block of a group's inodes.
func (v *extVolume) inodeTable(group uint64) (uint64, error) {
	perBlock := uint64(v.block / v.descSize)
	at := int64(v.descriptors(group/perBlock))*v.block + int64(group%perBlock)*v.descSize
	d := make([]byte, v.descSize)
	if err := v.c.read(d, at); err != nil {
		return 0, err
	}
	if v.summed() {
		stored := uint32(le.Uint16(d[0x1E:]))
		le.PutUint16(d[0x1E:], 0)
		if got := sum(sum(v.seed, le32(uint32(group))), d); got&0xFFFF != stored {
			return 0, corrupt(at, "the descriptor of group %d differs from its checksum", group)
		}
	}
	table := uint64(le.Uint32(d[0x8:]))
	if v.descSize >= 64 {
		table |= uint64(le.Uint32(d[0x28:])) << 32
	}
	return table, v.checkBlocks(table, 1)
}

// descriptors is the block that holds the n-th block of group descriptors.
func (v *extVolume) descriptors(n uint64) uint64 {
	super := uint64(extSuperOffset / v.block) // the block of the superblock
	if v.incompat&extMetaBG == 0 || n < v.firstMeta {
		return super + 1 + n
	}
	group := n * uint64(v.block/v.descSize)
	at := v.firstBlock + group*v.perGroup
	if v.hasSuper(group) {
		at++
	}
	if v.block == 1024 && n == 0 && v.firstBlock == 0 {
		at++ // the boot block is a block of its own
	}
	return at
}

// hasSuper tells whether a group begins with a copy of the superblock.
func (v *extVolume) hasSuper(group uint64) bool {
	switch {
	case group == 0:
		return true
	case v.compat&extSparseSuper2 != 0:
		return group == uint64(v.backups[0]) || group == uint64(v.backups[1])
	case group == 1 || v.roCompat&extSparseSuper == 0:
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := group
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}
