package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

const mib = 1 << 20

// A testDisk is made by hand, for what no tool writes.
type testDisk []byte

func (d testDisk) read(t *testing.T) Table {
	t.Helper()
	table, err := Read(bytes.NewReader(d), int64(len(d)))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// mbr writes entries (boot, type, start, count) into a sector, with the signature.
func (d testDisk) mbr(sector int64, entries ...[4]uint32) {
	b := d[sector*512:]
	for i, e := range entries {
		at := b[446+16*i:]
		at[0], at[4] = byte(e[0]), byte(e[1])
		binary.LittleEndian.PutUint32(at[8:], e[2])
		binary.LittleEndian.PutUint32(at[12:], e[3])
	}
	b[510], b[511] = 0x55, 0xaa
}

// A gptPart is the first and last sector of a partition of a testDisk.
type gptPart [2]uint64

// gpt makes a GPT with both copies and 128 entries.
func (d testDisk) gpt(sector uint64, parts ...gptPart) {
	last := uint64(len(d))/sector - 1
	entries := 128 * 128 / sector
	d.mbr(0, [4]uint32{0, typeProtective, 1, 0xffffffff})
	for _, at := range [][3]uint64{{1, last, 2}, {last, 1, last - entries}} {
		own, other, table := at[0], at[1], at[2]
		for i, p := range parts {
			b := d[table*sector+uint64(128*i):]
			b[0], b[32], b[56] = 0xaf, 0, byte('a'+i)
			binary.LittleEndian.PutUint64(b[32:], p[0])
			binary.LittleEndian.PutUint64(b[40:], p[1])
		}
		h := d[own*sector:]
		copy(h, gptSignature)
		binary.LittleEndian.PutUint32(h[8:], 0x10000)
		binary.LittleEndian.PutUint32(h[12:], gptHeader)
		for i, v := range []uint64{own, other, 2 + entries, last - entries - 1} {
			binary.LittleEndian.PutUint64(h[24+8*i:], v)
		}
		binary.LittleEndian.PutUint64(h[72:], table)
		binary.LittleEndian.PutUint32(h[80:], 128)
		binary.LittleEndian.PutUint32(h[84:], gptEntry)
		d.seal(sector, own)
	}
}

// seal makes the checksums of the header at lba right, where it can be followed.
func (d testDisk) seal(sector, lba uint64) {
	h := d[lba*sector:]
	from := binary.LittleEndian.Uint64(h[72:])
	size := uint64(binary.LittleEndian.Uint32(h[80:])) * uint64(binary.LittleEndian.Uint32(h[84:]))
	if from < uint64(len(d))/sector && size <= uint64(len(d))-from*sector {
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(d[from*sector:][:size]))
	}
	clear(h[16:20])
	if n := binary.LittleEndian.Uint32(h[12:]); uint64(n) <= uint64(len(h)) {
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:n]))
	}
}

// numbers writes partitions as number:start+count, in sectors of 512 bytes.
func numbers(t Table) string {
	words := []string{t.Scheme}
	for _, p := range t.Partitions {
		words = append(words, fmt.Sprintf("%d:%d+%d", p.Number, p.Off/512, p.Size/512))
	}
	return strings.Join(words, " ")
}

func checkGPT(t *testing.T, d testDisk, want string) {
	t.Helper()
	table, err := Read(bytes.NewReader(d), int64(len(d)))
	got := numbers(table)
	if err != nil {
		if got = err.Error(); !errors.Is(err, ErrDamaged) || got == "" || table.Scheme != "" {
			t.Errorf("%+v and error %v", table, err)
		}
		if want != "" && strings.Contains(got, want) {
			return
		}
	}
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
