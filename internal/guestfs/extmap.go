package guestfs

const (
	extentMagic    = 0xF30A
	extentMaxDepth = 5
	// extentUnwritten and above are lengths of what was reserved and never written.
	extentUnwritten = 32768
	// extentEnd is past the last block that a file can have.
	extentEnd = uint64(1) << 32
)

// extent finds the extent that holds a block of a file, or the hole there.
func (v *extVolume) extent(in *inode, logical uint64) (blockSpan, error) {
	if logical >= extentEnd {
		return blockSpan{end: ^uint64(0), hole: true}, nil
	}
	node, end := in.blocks[:], extentEnd // end is where the next branch begins
	for depth := -1; ; {
		entries, level, err := extentNode(node, depth)
		if err != nil {
			return blockSpan{}, err
		}
		depth = level
		at := -1 // the last entry that begins at or before the block
		for i := 0; i < len(entries); i += 12 {
			first := uint64(le.Uint32(entries[i:]))
			if first > logical {
				end = min(end, first)
				break
			}
			at = i
		}
		switch {
		case at < 0:
			return blockSpan{end: end, hole: true}, nil
		case depth == 0:
			return leafSpan(entries[at:at+12], logical, end)
		}
		e := entries[at:]
		child := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
		if node, err = v.readBlock(child); err != nil {
			return blockSpan{}, err
		}
		if err := v.checkExtentBlock(in, node, int64(child)*v.block); err != nil {
			return blockSpan{}, err
		}
	}
}

// leafSpan is what an extent says of a block behind its beginning.
func leafSpan(e []byte, logical, end uint64) (blockSpan, error) {
	first, length := uint64(le.Uint32(e)), uint64(le.Uint16(e[4:]))
	unwritten := length > extentUnwritten
	if unwritten {
		length -= extentUnwritten
	}
	switch {
	case length == 0 || first+length > extentEnd:
		return blockSpan{}, corrupt(-1, "an extent of %d blocks at %d", length, first)
	case logical >= first+length:
		return blockSpan{end: end, hole: true}, nil
	case first+length > end:
		return blockSpan{}, corrupt(-1, "extents that overlap at block %d", end)
	}
	span := blockSpan{end: first + length, hole: unwritten}
	span.at = uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32
	span.at += logical - first
	return span, nil
}

// extentNode checks a node of the tree below one of depth above, -1 for the root,
// and gives its entries, which are in order.
func extentNode(node []byte, above int) (entries []byte, depth int, err error) {
	count, room := int(le.Uint16(node[2:])), int(le.Uint16(node[4:]))
	depth = int(le.Uint16(node[6:]))
	switch {
	case le.Uint16(node) != extentMagic, count > room, 12+12*room > len(node), depth > extentMaxDepth, above >= 0 && depth != above-1:
		return nil, 0, corrupt(-1, "a node of extents that can't be")
	}
	entries = node[12 : 12+12*count]
	for i := 12; i < len(entries); i += 12 {
		if le.Uint32(entries[i:]) <= le.Uint32(entries[i-12:]) {
			return nil, 0, corrupt(-1, "extents that aren't in order")
		}
	}
	return entries, depth, nil
}

// checkExtentBlock compares a node with its checksum, behind the room for entries.
func (v *extVolume) checkExtentBlock(in *inode, p []byte, at int64) error {
	if !v.summed() {
		return nil
	}
	tail := 12 + 12*int(le.Uint16(p[4:]))
	if tail+4 > len(p) || sum(in.seed, p[:tail]) != le.Uint32(p[tail:]) {
		return corrupt(at, "extents differ from their checksum")
	}
	return nil
}

// directBlocks is how many blocks an inode of ext2 lists itself; behind them are three
// that list blocks, lists of blocks, and lists of lists.
const directBlocks = 12

// mapped finds a block of a file in the block map of ext2 and ext3.
func (v *extVolume) mapped(in *inode, logical uint64) (blockSpan, error) {
	list := in.blocks[:4*directBlocks]
	if logical < directBlocks {
		return listSpan(list, logical, 0, 1), nil
	}
	per := uint64(v.block / 4) // numbers in a block
	begin, covers := uint64(directBlocks), per
	for level := range 3 {
		if logical < begin+covers {
			at := 4 * (directBlocks + level)
			return v.indirect(in.blocks[at:at+4], logical, begin, covers)
		}
		begin, covers = begin+covers, covers*per
	}
	return blockSpan{end: ^uint64(0), hole: true}, nil
}

// indirect goes down from a number that stands for covers blocks from begin on.
func (v *extVolume) indirect(number []byte, logical, begin, covers uint64) (blockSpan, error) {
	per := uint64(v.block / 4)
	for {
		block := uint64(le.Uint32(number))
		if block == 0 {
			return blockSpan{end: begin + covers, hole: true}, nil
		}
		list, err := v.readBlock(block)
		if err != nil {
			return blockSpan{}, err
		}
		covers /= per
		if covers == 1 {
			return listSpan(list, logical, begin, 1), nil
		}
		i := (logical - begin) / covers
		if span := listSpan(list, logical, begin, covers); span.hole {
			return span, nil
		}
		number, begin = list[4*i:4*i+4], begin+i*covers
	}
}

// listSpan is the run at logical in a list of numbers that each stand for covers
// blocks, the first one for those at begin: blocks that follow each other, or zeros.
func listSpan(list []byte, logical, begin, covers uint64) blockSpan {
	i := (logical - begin) / covers
	first := le.Uint32(list[4*i:])
	n := i + 1
	for ; 4*n < uint64(len(list)); n++ {
		next := le.Uint32(list[4*n:])
		if first == 0 && next != 0 || first != 0 && uint64(next) != uint64(first)+n-i {
			break
		}
	}
	return blockSpan{end: begin + n*covers, at: uint64(first), hole: first == 0}
}
