package guestfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
)

// What of the superblock's feature words matters here. Those of ro_compat never
// change how something is read.
const (
	extHasJournal    = 0x4 // compat
	extSparseSuper2  = 0x200
	extSparseSuper   = 0x1 // ro_compat
	extMetadataCsum  = 0x400
	extFiletype      = 0x2 // incompat
	extRecover       = 0x4
	extJournalDevice = 0x8
	extMetaBG        = 0x10
	extExtents       = 0x40
	ext64Bit         = 0x80
	extMMP           = 0x100
	extFlexBG        = 0x200
	extEAInode       = 0x400
	extCsumSeed      = 0x2000
	extLargeDir      = 0x4000
	extInlineData    = 0x8000
	extEncrypt       = 0x10000
	extCasefold      = 0x20000

	// Whoever encrypts does it file by file; the others can be read.
	extKnown = extFiletype | extRecover | extMetaBG | extExtents | ext64Bit | extMMP | extFlexBG | extEAInode |
		extCsumSeed | extLargeDir | extInlineData | extEncrypt | extCasefold

	extSuperOffset = 1024
	extSuperSize   = 1024
	extMagic       = 0xEF53
	extRootInode   = 2
)

// An extVolume is ext2, ext3 or ext4.
type extVolume struct {
	c    *pages
	data io.ReaderAt

	compat, incompat, roCompat uint32

	block      int64 // bytes
	cluster    int64 // bytes that are allocated at once: a block, or more with bigalloc
	blocks     uint64
	firstBlock uint64
	perGroup   uint64 // blocks
	inodes     uint32
	inodesPer  uint32 // of a group
	inodeSize  int64
	descSize   int64
	firstMeta  uint64    // the first group of descriptors that lies as meta_bg says
	backups    [2]uint32 // sparse_super2
	seed       uint32    // of checksums
}

var le = binary.LittleEndian

// openExt opens the file system, as it is after its journal was replayed.
func openExt(c *pages, data io.ReaderAt) (*FileSystem, error) {
	s, journal, err := openExtAsItIs(c, data)
	if err != nil || !s.Dirty || journal == 0 {
		return s, err
	}
	newer, partly, err := s.volume.(*extVolume).replayed(s, journal)
	if errors.Is(err, errJournal) || errors.Is(err, ErrCorrupt) {
		return s, nil // which says that it is dirty
	}
	if err != nil {
		return nil, err
	}
	// The superblock may be among what is newer.
	after, _, err := openExtAsItIs(newPages(newer, c.size), newer)
	if err != nil {
		return nil, err
	}
	after.Dirty = partly
	return after, nil
}

// openExtAsItIs leaves the journal alone, and gives the number of its inode, 0 for none
// in this file system.
func openExtAsItIs(c *pages, data io.ReaderAt) (_ *FileSystem, journal uint64, err error) {
	sb := make([]byte, extSuperSize)
	if err := c.read(sb, extSuperOffset); err != nil {
		return nil, 0, err
	}
	v := &extVolume{c: c, data: data, compat: le.Uint32(sb[0x5C:]), incompat: le.Uint32(sb[0x60:]), roCompat: le.Uint32(sb[0x64:])}
	if err := v.checkFeatures(); err != nil {
		return nil, 0, err
	}
	if err := v.geometry(sb); err != nil {
		return nil, 0, err
	}
	label, _, _ := bytes.Cut(sb[0x78:0x88], []byte{0})
	if v.compat&extHasJournal != 0 {
		journal = uint64(le.Uint32(sb[0xE0:]))
	}
	return &FileSystem{
		Kind: extKind(sb), Label: string(label), Dirty: v.incompat&extRecover != 0, Owned: true, volume: v, blocks: c.size/v.block + 1,
	}, journal, nil
}

// extKind names it as blkid does: by what an older kernel couldn't read.
func extKind(sb []byte) string {
	const ext3Incompat, ext3ROCompat = extFiletype | extRecover | extMetaBG, 0x1 | 0x2 | 0x4
	switch {
	case le.Uint32(sb[0x60:])&^ext3Incompat != 0 || le.Uint32(sb[0x64:])&^ext3ROCompat != 0:
		return "ext4"
	case le.Uint32(sb[0x5C:])&extHasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

func (v *extVolume) checkFeatures() error {
	if v.incompat&extJournalDevice != 0 {
		return unsupported("it is the journal of another file system")
	}
	if unknown := v.incompat &^ extKnown; unknown != 0 {
		var names []string
		for ; unknown != 0; unknown &= unknown - 1 {
			names = append(names, extFeatureName(unknown&-unknown))
		}
		return unsupported("its feature %s", strings.Join(names, ", "))
	}
	return nil
}

func extFeatureName(bit uint32) string {
	switch bit {
	case 0x1:
		return "compression"
	case 0x1000:
		return "dirdata"
	}
	return fmt.Sprintf("incompat %#x", bit)
}

// geometry takes from the superblock where everything lies.
func (v *extVolume) geometry(sb []byte) error {
	shift := le.Uint32(sb[0x18:])
	if shift > 6 {
		return corrupt(extSuperOffset+0x18, "blocks of 2^%d KiB", shift)
	}
	v.block = 1024 << shift
	v.cluster = v.block << shiftOf(sb)
	v.blocks, v.firstBlock = uint64(le.Uint32(sb[0x4:])), uint64(le.Uint32(sb[0x14:]))
	v.perGroup, v.inodesPer, v.inodes = uint64(le.Uint32(sb[0x20:])), le.Uint32(sb[0x28:]), le.Uint32(sb[0x0:])
	v.inodeSize, v.descSize = 128, 32
	if le.Uint32(sb[0x4C:]) > 0 { // the revision; those of 0 have none of it
		v.inodeSize = int64(le.Uint16(sb[0x58:]))
	}
	if v.incompat&ext64Bit != 0 {
		v.blocks |= uint64(le.Uint32(sb[0x150:])) << 32
		v.descSize = int64(le.Uint16(sb[0xFE:]))
	}
	v.firstMeta = uint64(le.Uint32(sb[0x104:]))
	v.backups = [2]uint32{le.Uint32(sb[0x24C:]), le.Uint32(sb[0x250:])}
	powers := bits.OnesCount64(uint64(v.inodeSize)) == 1 && bits.OnesCount64(uint64(v.descSize)) == 1
	switch {
	case v.perGroup == 0 || v.perGroup > uint64(v.cluster)*8, v.inodesPer == 0, v.inodes < extRootInode,
		v.blocks <= v.firstBlock, v.blocks > 1<<48,
		!powers, v.inodeSize < 128, v.inodeSize > v.block, v.descSize < 32, v.descSize > v.block:
		return corrupt(extSuperOffset, "a superblock that can't be")
	}
	return v.checksums(sb)
}

// shiftOf is the shift from blocks to clusters, of bigalloc.
func shiftOf(sb []byte) uint32 {
	if block, cluster := le.Uint32(sb[0x18:]), le.Uint32(sb[0x1C:]); cluster > block && cluster-block < 20 {
		return cluster - block
	}
	return 0
}

// checksums checks that of the superblock and derives the seed of all others.
func (v *extVolume) checksums(sb []byte) error {
	if v.roCompat&extMetadataCsum == 0 {
		return nil
	}
	if sb[0x175] != 1 {
		return unsupported("checksums of kind %d", sb[0x175])
	}
	if sum(^uint32(0), sb[:0x3FC]) != le.Uint32(sb[0x3FC:]) {
		return corrupt(extSuperOffset, "the superblock differs from its checksum")
	}
	v.seed = sum(^uint32(0), sb[0x68:0x78])
	if v.incompat&extCsumSeed != 0 {
		v.seed = le.Uint32(sb[0x270:])
	}
	return nil
}

func (v *extVolume) summed() bool { return v.roCompat&extMetadataCsum != 0 }

// readBlock reads one block of metadata.
func (v *extVolume) readBlock(number uint64) ([]byte, error) {
	if err := v.checkBlocks(number, 1); err != nil {
		return nil, err
	}
	p := make([]byte, v.block)
	return p, v.c.read(p, int64(number)*v.block)
}

// checkBlocks refuses what doesn't lie in the file system.
func (v *extVolume) checkBlocks(first, n uint64) error {
	if first < v.firstBlock || first >= v.blocks || n > v.blocks-first {
		return corrupt(-1, "it refers to blocks [%d, %d) of %d", first, first+n, v.blocks)
	}
	return nil
}

func (v *extVolume) bytes() io.ReaderAt { return v.data }

func (v *extVolume) same(a, b string) bool { return a == b }

func (v *extVolume) root() (File, error) {
	f, err := v.open(extRootInode)
	if err == nil && !f.IsDir() {
		err = corrupt(-1, "the root isn't a folder")
	}
	return f, err
}

func (v *extVolume) stat(e Entry) (File, error) { return v.open(e.number) }
