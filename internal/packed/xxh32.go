package packed

import (
	"encoding/binary"
	"math/bits"
)

// An xxh32 is the checksum of LZ4. The LZ4 package has one that can't be imported.
type xxh32 struct {
	lanes [4]uint32
	rest  [16]byte // what isn't taken in yet
	size  uint64
}

const (
	xxh1 = 0x9e3779b1
	xxh2 = 0x85ebca77
	xxh3 = 0xc2b2ae3d
	xxh4 = 0x27d4eb2f
	xxh5 = 0x165667b1
)

func newXXH32() *xxh32 {
	one, two := uint32(xxh1), uint32(xxh2)
	return &xxh32{lanes: [4]uint32{one + two, two, 0, -one}}
}

func xxh32Of(p []byte) uint32 {
	x := newXXH32()
	x.write(p)
	return x.sum()
}

func (x *xxh32) write(p []byte) {
	held := int(x.size % 16)
	x.size += uint64(len(p))
	if held > 0 {
		n := copy(x.rest[held:], p)
		p = p[n:]
		if held+n < len(x.rest) {
			return
		}
		x.blocks(x.rest[:])
	}
	x.blocks(p)
	copy(x.rest[:], p[len(p)&^15:])
}

// blocks takes in all whole blocks of 16 bytes.
func (x *xxh32) blocks(p []byte) {
	a, b, c, d := x.lanes[0], x.lanes[1], x.lanes[2], x.lanes[3]
	for ; len(p) >= 16; p = p[16:] {
		a = bits.RotateLeft32(a+binary.LittleEndian.Uint32(p)*xxh2, 13) * xxh1
		b = bits.RotateLeft32(b+binary.LittleEndian.Uint32(p[4:])*xxh2, 13) * xxh1
		c = bits.RotateLeft32(c+binary.LittleEndian.Uint32(p[8:])*xxh2, 13) * xxh1
		d = bits.RotateLeft32(d+binary.LittleEndian.Uint32(p[12:])*xxh2, 13) * xxh1
	}
	x.lanes = [4]uint32{a, b, c, d}
}

func (x *xxh32) sum() uint32 {
	h := x.lanes[2] + xxh5
	if x.size >= 16 {
		h = bits.RotateLeft32(x.lanes[0], 1) + bits.RotateLeft32(x.lanes[1], 7) +
			bits.RotateLeft32(x.lanes[2], 12) + bits.RotateLeft32(x.lanes[3], 18)
	}
	h += uint32(x.size)
	rest := x.rest[:x.size%16]
	for ; len(rest) >= 4; rest = rest[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(rest)*xxh3, 17) * xxh4
	}
	for _, b := range rest {
		h = bits.RotateLeft32(h+uint32(b)*xxh5, 11) * xxh1
	}
	h = (h ^ h>>15) * xxh2
	h = (h ^ h>>13) * xxh3
	return h ^ h>>16
}
