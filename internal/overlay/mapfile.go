package overlay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
)

const (
	mapVersion   = 1
	recordHead   = 12      // bytes before a payload
	maxPayload   = 4 << 20 // bytes
	kindIdentity = 'H'
	kindOwned    = 'O'
	// compactAbove is the length of a map, in bytes, that is made anew if that saves
	// most of it.
	compactAbove = 1 << 20
	compactRatio = 4
)

// errDamaged: a map that isn't what was written.
var errDamaged = errors.New("the map of the overlay is damaged")

// castagnoli is made once: crc32 looks it up under a lock otherwise.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what 'H' holds. Names are bytes, as they are in the repository.
type header struct {
	Version  int    `json:"version"`
	Image    []byte `json:"image"`
	Snapshot []byte `json:"snapshot"`
	ID       string `json:"id"`
	Size     int64  `json:"size"`
}

func (h header) identity() Identity {
	return Identity{Name: Name{string(h.Image), string(h.Snapshot)}, ID: h.ID, Size: h.Size}
}

// appendRecord appends a record to b.
func appendRecord(b []byte, kind byte, payload []byte) []byte {
	length := binary.LittleEndian.AppendUint32(nil, uint32(1+len(payload)))
	b = append(b, length...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(length, castagnoli))
	sum := crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	b = append(b, kind)
	return append(b, payload...)
}

// appendRuns appends as many records as the runs need.
func appendRuns(b []byte, runs iter.Seq[run]) []byte {
	var payload []byte
	var at int64
	flush := func() {
		if len(payload) > 0 {
			b = appendRecord(b, kindOwned, payload)
		}
		payload, at = payload[:0], 0
	}
	for r := range runs {
		payload = binary.AppendUvarint(payload, uint64(r.from-at))
		payload = binary.AppendUvarint(payload, uint64(r.len()))
		at = r.to
		if len(payload) > maxPayload/2 {
			flush()
		}
	}
	flush()
	return b
}

// appendIdentity appends the first record.
func appendIdentity(b []byte, id Identity) ([]byte, error) {
	text, err := json.Marshal(header{
		Version: mapVersion, Image: []byte(id.Image), Snapshot: []byte(id.Snapshot), ID: id.ID, Size: id.Size,
	})
	if err != nil {
		return nil, err
	}
	return appendRecord(b, kindIdentity, text), nil
}

// A content is what a map says.
type content struct {
	id    Identity
	owned *blocks
	whole int64 // bytes of the file up to the end of the last whole record
}

// readMap reads a map. A record at the end that was cut off is left out; errDamaged is
// anything else that is wrong.
func readMap(f *os.File) (content, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return content{}, err
	}
	kind, payload, ok := nextRecord(data)
	if !ok || kind != kindIdentity {
		return content{}, fmt.Errorf("%w: %s doesn't begin with what it lies on", errDamaged, f.Name())
	}
	var h header
	if err := json.NewDecoder(bytes.NewReader(payload)).Decode(&h); err != nil {
		return content{}, fmt.Errorf("%w: %s: %w", errDamaged, f.Name(), err)
	}
	c := content{id: h.identity(), owned: newBlocks()}
	if h.Version != mapVersion || h.Size < 0 {
		return c, fmt.Errorf("%w: %s has version %d and %d bytes, and this program makes version %d", errDamaged, f.Name(), h.Version, h.Size, mapVersion)
	}
	c.whole = recordHead + 1 + int64(len(payload))
	for c.whole < int64(len(data)) {
		rest := data[c.whole:]
		kind, payload, ok := nextRecord(rest)
		if !ok {
			if !cutOff(rest) {
				return c, fmt.Errorf("%w: %s at byte %d", errDamaged, f.Name(), c.whole)
			}
			return c, nil
		}
		if kind != kindOwned || !c.owned.decode(payload, blockCount(h.Size)) {
			return c, fmt.Errorf("%w: %s at byte %d", errDamaged, f.Name(), c.whole)
		}
		c.whole += recordHead + 1 + int64(len(payload))
	}
	return c, nil
}

// nextRecord takes the record that data begins with.
func nextRecord(data []byte) (kind byte, payload []byte, ok bool) {
	length, ok := recordLength(data)
	if !ok || length > len(data)-recordHead {
		return 0, nil, false
	}
	body := data[recordHead : recordHead+length]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[8:]) {
		return 0, nil, false
	}
	return body[0], body[1:], true
}

// recordLength is that of the payload of the record that data begins with, with its
// kind.
func recordLength(data []byte) (int, bool) {
	if len(data) < recordHead || crc32.Checksum(data[:4], castagnoli) != binary.LittleEndian.Uint32(data[4:]) {
		return 0, false
	}
	length := binary.LittleEndian.Uint32(data)
	return int(length), length > 0 && length <= maxPayload
}

// cutOff tells whether a bad record is what an append leaves that wasn't finished: the
// last one, not all of which is there, or nothing but zeros behind its head. A whole one
// never ends in a zero.
func cutOff(data []byte) bool {
	if length, ok := recordLength(data); ok {
		left := len(data) - recordHead
		return length > left || length == left && data[len(data)-1] == 0
	}
	return len(data) < recordHead || len(bytes.Trim(data[recordHead:], "\x00")) == 0
}

// decode adds the runs of a payload, which end before limit.
func (b *blocks) decode(payload []byte, limit int64) bool {
	var at int64
	for len(payload) > 0 {
		gap, n := binary.Uvarint(payload)
		if n <= 0 || gap > uint64(limit-at) {
			return false
		}
		count, m := binary.Uvarint(payload[n:])
		from := at + int64(gap)
		if m <= 0 || count == 0 || count > uint64(limit-from) {
			return false
		}
		at = from + int64(count)
		b.add(run{from, at})
		payload = payload[n+m:]
	}
	return true
}

// blockCount is the number of blocks of an image, the last one perhaps not whole.
func blockCount(size int64) int64 {
	count := size >> blockShift
	if size&(blockSize-1) != 0 {
		count++
	}
	return count
}
