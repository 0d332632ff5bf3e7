package index

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errRecord: a stored record can't be decoded.
var errRecord = errors.New("index record is corrupt")

// The first byte of a record's value.
const (
	recordLeaf  = 0
	recordSplit = 1
)

// The low bits of a run's head.
const (
	runData    = 1 << 0 // else a hole
	runAligned = 1 << 1 // the length counts 4 KiB blocks
	runSame    = 1 << 2 // same source as the run of data before
	runBits    = 3

	alignShift = 12
)

// A record is a decoded value: a leaf's data segments, or a split.
type record struct {
	split bool
	segs  []Segment // data only, sorted; gaps are holes
}

// appendLeaf encodes the data segments of the chunk that begins at start.
//
//	leaf  = 00 run*
//	run   = uvarint(length<<3 | flags) [uvarint source] [varint position]
//	        source when runData without runSame, position (as the difference
//	        to where the run of data before would go on) when runData
func appendLeaf(dst []byte, start int64, segs []Segment) []byte {
	dst = append(dst, recordLeaf)
	at := start
	var source uint32
	var next int64
	for _, s := range segs {
		if s.Hole() {
			continue
		}
		if s.Off > at {
			dst = appendHead(dst, s.Off-at, 0)
		}
		flags := uint64(runData)
		if s.Source == source {
			flags |= runSame
		} else {
			next = 0
		}
		dst = appendHead(dst, s.Len, flags)
		if s.Source != source {
			dst = binary.AppendUvarint(dst, uint64(s.Source))
		}
		dst = binary.AppendVarint(dst, s.Pos-next)
		source, next, at = s.Source, s.Pos+s.Len, s.End()
	}
	return dst
}

func appendHead(dst []byte, length int64, flags uint64) []byte {
	n := uint64(length)
	if n&(1<<alignShift-1) == 0 {
		n >>= alignShift
		flags |= runAligned
	}
	return binary.AppendUvarint(dst, n<<runBits|flags)
}

// decodeRecord decodes the value of the chunk [start, start+size).
func decodeRecord(value []byte, start, size int64) (record, error) {
	if len(value) == 0 {
		return record{}, fmt.Errorf("%w: no bytes", errRecord)
	}
	switch value[0] {
	case recordSplit:
		if len(value) != 1 {
			return record{}, fmt.Errorf("%w: split of %d bytes", errRecord, len(value))
		}
		return record{split: true}, nil
	case recordLeaf:
		segs, err := decodeLeaf(value[1:], start, size)
		return record{segs: segs}, err
	}
	return record{}, fmt.Errorf("%w: kind %d", errRecord, value[0])
}

func decodeLeaf(b []byte, start, size int64) ([]Segment, error) {
	d := decoder{b: b}
	var segs []Segment
	var source uint32
	var next int64
	for at, end := start, start+size; len(d.b) > 0; {
		head := d.uvarint()
		length := int64(head >> runBits)
		if head&runAligned != 0 && length < size {
			length <<= alignShift
		}
		if length <= 0 || length > end-at {
			return nil, fmt.Errorf("%w: run of %d bytes at %d", errRecord, length, at)
		}
		if head&runData != 0 {
			if head&runSame == 0 {
				source, next = d.source(), 0
			}
			pos := next + d.varint()
			if source == 0 || pos < 0 {
				return nil, fmt.Errorf("%w: run from %d:%d", errRecord, source, pos)
			}
			segs = append(segs, Segment{Off: at, Len: length, Source: source, Pos: pos})
			next = pos + length
		}
		at += length
	}
	if d.bad {
		return nil, fmt.Errorf("%w: cut off", errRecord)
	}
	return segs, nil
}

// A decoder reads varints and remembers when one was bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) source() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.bad, d.b = true, nil
		return 0
	}
	return uint32(v)
}

func (d *decoder) bytes(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}
