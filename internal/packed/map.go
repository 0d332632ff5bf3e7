package packed

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"sort"
)

const (
	// ChunkSize is what is unpacked, checked and kept as one, bytes.
	ChunkSize = 1 << 20
	// zeroSize is the least that counts as a hole, and its alignment.
	zeroSize = 64 << 10
	// Nearer than pointPitch to the last one a place isn't noted.
	pointPitch = ChunkSize
)

// A Map says where in a compressed file its content is. It is immutable.
type Map struct {
	codec  Codec
	size   int64 // of the content
	skip   int64 // of what is unpacked before the content begins
	points []point
	sums   []uint32 // CRC-32C of each chunk
	data   []run    // what isn't zeros

	id   string
	turn chan struct{} // whoever unpacks holds it
}

// A point is a place, and how much is unpacked before it.
type point struct {
	at  place
	out int64
}

// A run is a range of the content.
type run struct{ from, to int64 }

// Size is that of the content, bytes.
func (m *Map) Size() int64 { return m.size }

// Codec is that of the file.
func (m *Map) Codec() Codec { return m.codec }

// NextData is the first offset at or after off that isn't in a hole, Size when
// there is none.
func (m *Map) NextData(off int64) int64 {
	i := sort.Search(len(m.data), func(i int) bool { return m.data[i].to > off })
	if i == len(m.data) {
		return m.size
	}
	return max(off, m.data[i].from)
}

// NextHole is the first offset at or after off that is in a hole, Size when there
// is none.
func (m *Map) NextHole(off int64) int64 {
	i := sort.Search(len(m.data), func(i int) bool { return m.data[i].to > off })
	if i == len(m.data) || m.data[i].from > off {
		return min(off, m.size)
	}
	return m.data[i].to
}

// before returns the last place from which a chunk can be reached, and how much
// of the content comes before it, which may be less than nothing.
func (m *Map) before(off int64) point {
	i := sort.Search(len(m.points), func(i int) bool { return m.points[i].out-m.skip > off })
	if i == 0 {
		return point{}
	}
	return m.points[i-1]
}

// farBehind is how much may be unpacked for one read without a thought, bytes. Of the
// slow codecs that is nothing: unpacking them takes 10 to 50 times as long as the store.
const farBehind = 16 << 20

// scan unpacks a file once. What is hard to reach is given to keep, which may be
// nil; room is asked before it takes memory.
func scan(
	ctx context.Context, src io.ReaderAt, size int64, codec Codec, inTar bool, id string,
	keep func(chunk int64, data []byte), room func(n int64) error,
) (*Map, error) {
	m := &Map{codec: codec, id: id, turn: make(chan struct{}, 1)}
	s, err := newStream(codec, src, size, place{}, 0)
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.begun = func(at place, out int64) {
		if n := len(m.points); n == 0 || out-m.points[n-1].out >= pointPitch {
			m.points = append(m.points, point{at, out})
		}
	}
	s.room = room
	content := io.Reader(s)
	if inTar {
		t, err := newMember(s)
		if err != nil {
			return nil, err
		}
		m.skip, content = t.skip, t
	}
	buf := make([]byte, ChunkSize)
	for chunk := int64(0); ; chunk++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(content, buf)
		if n > 0 {
			m.add(buf[:n])
			if keep != nil && m.kept(chunk) {
				keep(chunk, buf[:n])
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF: // the content's end: a stream says *Error
			return m, nil
		default:
			return nil, err
		}
	}
}

// add takes in the next chunk.
func (m *Map) add(chunk []byte) {
	m.sums = append(m.sums, checksum(chunk))
	for at := 0; at < len(chunk); at += zeroSize {
		end := min(at+zeroSize, len(chunk))
		if !isZero(chunk[at:end]) {
			r := run{m.size + int64(at), m.size + int64(end)}
			if n := len(m.data); n > 0 && m.data[n-1].to == r.from {
				m.data[n-1].to = r.to
			} else {
				m.data = append(m.data, r)
			}
		}
	}
	m.size += int64(len(chunk))
}

// far tells whether a chunk lies far behind the place to unpack it from.
func (m *Map) far(chunk int64) bool {
	at := chunk * ChunkSize
	return m.codec == XZ || m.codec == Bzip2 || at+m.skip-m.before(at).out > farBehind
}

// kept tells whether a chunk is worth to be kept: it is far, and not a hole.
func (m *Map) kept(chunk int64) bool {
	at := chunk * ChunkSize
	return m.far(chunk) && !m.zero(at, min(at+ChunkSize, m.size))
}

// length is that of a chunk.
func (m *Map) length(chunk int64) int { return int(min(ChunkSize, m.size-chunk*ChunkSize)) }

// zero tells whether a range holds nothing but zeros.
func (m *Map) zero(from, to int64) bool { return m.NextData(from) >= to }

func checksum(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}
