package packed

import (
	"encoding/binary"
	"errors"
)

// A Map is kept as: version, codec, and numbers as uvarints, lists with their
// length before them. Points and runs are differences to the one before, checksums
// are 4 bytes each, little-endian.
const mapVersion = 1

var errMap = errors.New("not a map of a compressed file")

// Encode returns what Decode reads.
func (m *Map) Encode() []byte {
	b := []byte{mapVersion, byte(len(m.codec))}
	b = append(b, m.codec...)
	put := func(v int64) { b = binary.AppendUvarint(b, uint64(v)) }
	put(m.size)
	put(m.skip)
	put(int64(len(m.points)))
	var last point
	for _, p := range m.points {
		put(p.at.in - last.at.in)
		put(p.at.aux)
		put(p.out - last.out)
		last = p
	}
	put(int64(len(m.data)))
	end := int64(0)
	for _, r := range m.data {
		put(r.from - end)
		put(r.to - r.from)
		end = r.to
	}
	for _, sum := range m.sums {
		b = binary.LittleEndian.AppendUint32(b, sum)
	}
	return b
}

// Decode reads a Map; id is the one that was given to Scan.
func Decode(b []byte, id string) (*Map, error) {
	if len(b) < 2 || b[0] != mapVersion || len(b) < 2+int(b[1]) {
		return nil, errMap
	}
	m := &Map{codec: Codec(b[2 : 2+b[1]]), id: id, turn: make(chan struct{}, 1)}
	b = b[2+b[1]:]
	bad := false
	get := func() int64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) < 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return int64(v)
	}
	m.size, m.skip = get(), get()
	var last point
	for n := get(); n > 0 && !bad; n-- {
		last = point{place{last.at.in + get(), get()}, 0}
		last.out = get()
		if k := len(m.points); k > 0 {
			last.out += m.points[k-1].out
		}
		m.points = append(m.points, last)
	}
	end := int64(0)
	for n := get(); n > 0 && !bad; n-- {
		r := run{from: end + get()}
		r.to = r.from + get()
		end = r.to
		m.data = append(m.data, r)
	}
	chunks := (m.size + ChunkSize - 1) / ChunkSize
	if bad || end > m.size || int64(len(b)) != 4*chunks || openers()[m.codec] == nil {
		return nil, errMap
	}
	for ; len(b) > 0; b = b[4:] {
		m.sums = append(m.sums, binary.LittleEndian.Uint32(b))
	}
	return m, nil
}
