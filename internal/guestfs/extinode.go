package guestfs

import "time"

// What of an inode's flags matters here.
const (
	inodeEncrypted = 0x800
	inodeIndex     = 0x1000
	inodeExtents   = 0x80000
	inodeInline    = 0x10000000

	// inodeMap is where the block map is, or the extents, or the data.
	inodeMap, inodeMapEnd = 0x28, 0x64
)

// An inode is what ext has of a file.
type inode struct {
	flags  uint32
	seed   uint32                       // of the checksums of its blocks
	blocks [inodeMapEnd - inodeMap]byte // the block map, extents, or data
	inline []byte                       // data, where it lies in the inode
	fast   bool                         // a link whose target lies in the inode
}

// open reads an inode.
func (v *extVolume) open(number64 uint64) (f File, err error) {
	number := uint32(number64)
	if number == 0 || number > v.inodes {
		return f, corrupt(-1, "inode %d of %d", number, v.inodes)
	}
	table, err := v.inodeTable(uint64((number - 1) / v.inodesPer))
	if err != nil {
		return f, err
	}
	at := int64(table)*v.block + int64((number-1)%v.inodesPer)*v.inodeSize
	raw := make([]byte, v.inodeSize)
	if err := v.c.read(raw, at); err != nil {
		return f, err
	}
	in := &inode{flags: le.Uint32(raw[0x20:])}
	copy(in.blocks[:], raw[inodeMap:inodeMapEnd])
	if in.seed, err = v.checkInode(number, raw, at); err != nil {
		return f, err
	}
	f = File{ID: number64, Mode: uint32(le.Uint16(raw)), Links: uint32(le.Uint16(raw[0x1A:])), inode: in}
	f.UID = uint32(le.Uint16(raw[0x2:])) | uint32(le.Uint16(raw[0x78:]))<<16
	f.GID = uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7A:]))<<16
	f.ModTime = extTime(raw)
	f.Size = int64(le.Uint32(raw[0x4:]))
	if f.IsRegular() || v.incompat&extLargeDir != 0 && f.IsDir() {
		f.Size |= int64(le.Uint32(raw[0x6C:])) << 32
	}
	return f, v.check(&f, raw, at)
}

// check takes from an inode what depends on its type, and refuses what can't be.
func (v *extVolume) check(f *File, raw []byte, at int64) error {
	in := f.inode
	if f.Mode == 0 || f.Links == 0 {
		return corrupt(at, "a name for an inode that isn't in use")
	}
	if f.Size < 0 {
		return corrupt(at, "a size past 2^63")
	}
	switch f.Mode & TypeMask {
	case TypeFIFO, TypeSocket:
		f.Size = 0
	case TypeChar, TypeBlock:
		f.Size = 0
		f.Major, f.Minor = deviceNumber(in.blocks[:])
	case TypeFile, TypeDir:
	case TypeLink:
		in.fast = in.flags&(inodeExtents|inodeInline) == 0 && f.Size < int64(len(in.blocks)) && v.noBlocks(raw)
	default:
		return corrupt(at, "a file of a type that isn't known (mode %#o)", f.Mode)
	}
	if in.flags&inodeInline == 0 || v.incompat&extInlineData == 0 {
		return nil
	}
	var err error
	in.inline, err = inlineData(raw, at)
	if err == nil && f.Size > int64(len(in.inline)) {
		err = corrupt(at, "%d bytes in an inode that holds %d", f.Size, len(in.inline))
	}
	return err
}

// noBlocks tells whether an inode has no blocks but those of its attributes.
func (v *extVolume) noBlocks(raw []byte) bool {
	if v.incompat&extEAInode != 0 {
		return true // attributes may take any number; since there are such, short links take none
	}
	blocks, attributes := int64(le.Uint32(raw[0x1C:])), le.Uint32(raw[0x68:]) != 0
	return blocks == 0 || attributes && blocks*512 <= v.cluster
}

// extTime is when the contents changed. Two bits beside the nanoseconds carry on
// past 2038.
func extTime(raw []byte) time.Time {
	seconds, nanos := int64(int32(le.Uint32(raw[0x10:]))), int64(0)
	if extraSize(raw) >= 0x8C-0x80 {
		extra := le.Uint32(raw[0x88:])
		seconds += int64(extra&3) << 32
		nanos = min(int64(extra>>2), 999999999)
	}
	return time.Unix(seconds, nanos)
}

// deviceNumber takes it from where the block map would be: two forms, as in
// Linux's old_decode_dev and new_decode_dev.
func deviceNumber(blocks []byte) (major, minor uint32) {
	if old := le.Uint32(blocks); old != 0 {
		return old >> 8 & 0xFF, old & 0xFF
	}
	dev := le.Uint32(blocks[4:])
	return dev >> 8 & 0xFFF, dev&0xFF | dev>>12&0xFFF00
}

// inlineData is what an inode holds itself: first where the block map would be, then
// in an attribute called system.data.
func inlineData(raw []byte, at int64) ([]byte, error) {
	data := append([]byte(nil), raw[inodeMap:inodeMapEnd]...)
	begin := 128 + extraSize(raw)
	if begin+4 > len(raw) || le.Uint32(raw[begin:]) != 0xEA020000 {
		return data, nil
	}
	values := raw[begin+4:]
	for p := values; len(p) >= 16 && le.Uint32(p) != 0; {
		name := int(p[0])
		length := (16 + name + 3) &^ 3
		if length > len(p) {
			break
		}
		if p[1] == 7 && string(p[16:16+name]) == "data" {
			off, size := int(le.Uint16(p[2:])), int64(le.Uint32(p[8:]))
			if le.Uint32(p[4:]) != 0 || off > len(values) || size > int64(len(values)-off) {
				return nil, corrupt(at, "data in an inode that doesn't lie in it")
			}
			return append(data, values[off:int64(off)+size]...), nil
		}
		p = p[length:]
	}
	return data, nil
}

// target reads a symbolic link.
func (v *extVolume) target(f *File) (string, error) {
	if f.inode.flags&inodeEncrypted != 0 {
		return "", errEncrypted()
	}
	if f.inode.fast {
		return string(f.inode.blocks[:f.Size]), nil
	}
	p := make([]byte, f.Size)
	if _, err := f.ReadAt(p, 0); err != nil {
		return "", err
	}
	return string(p), nil
}

func errEncrypted() error { return unsupported("it is encrypted by the guest (fscrypt)") }

// run is where a file's bytes lie.
func (v *extVolume) run(f *File, off int64) (run, error) {
	in := f.inode
	switch {
	case in.flags&inodeEncrypted != 0:
		return run{}, errEncrypted()
	case in.inline != nil:
		return run{end: f.Size, inline: in.inline[off:]}, nil
	}
	logical := uint64(off / v.block)
	var span blockSpan
	var err error
	if in.flags&inodeExtents != 0 {
		span, err = v.extent(in, logical)
	} else {
		span, err = v.mapped(in, logical)
	}
	if err != nil {
		return run{}, err
	}
	r := run{hole: span.hole, end: f.Size}
	if span.end < uint64(f.Size/v.block)+1 {
		r.end = int64(span.end) * v.block
	}
	if !span.hole {
		if err := v.checkBlocks(span.at, span.end-logical); err != nil {
			return run{}, err
		}
		r.at = int64(span.at)*v.block + off%v.block
	}
	return r, nil
}

// A blockSpan is a part of a file in blocks, from the one that was asked for.
type blockSpan struct {
	end  uint64 // of the file
	at   uint64 // of the file system
	hole bool
}
