package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

func lz4Commands() []string {
	return []string{
		"lz4 -c", "lz4 -c -1 -B4", "lz4 -c -9 -B5", "lz4 -c -B7 -BD", "lz4 -c -B4 -BD", "lz4 -c -B4 -BX", "lz4 -c -BD -BX",
		"lz4 -c --content-size", "lz4 -c -l", "lz4 -c --no-frame-crc", "lz4 -c --no-frame-crc -BX -B4",
	}
}

func lz4Skipped(n int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic+3)
	return append(binary.LittleEndian.AppendUint32(b, uint32(n)), make([]byte, n)...)
}

func TestLZ4(t *testing.T) {
	contents := toolContents()
	for _, command := range lz4Commands() {
		for _, c := range contents {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				if len(c.data) > 3<<20 {
					testenv.Long(t)
				}
				toolCheck(t, openLZ4, toolRun(t, c.data, command), c.data)
			})
		}
	}
}

func TestLZ4Blocks(t *testing.T) {
	data := toolText(20 << 20)
	for command, want := range map[string]int{"lz4 -c -B4": 320, "lz4 -c -B7": 5, "lz4 -c -B4 -BD": 1, "lz4 -c -l": 3} {
		if parts := toolCheck(t, openLZ4, toolRun(t, data, command), data); len(parts) != want {
			t.Errorf("%s: %d segments, want %d", command, len(parts), want)
		}
	}
}

func TestLZ4Frames(t *testing.T) {
	var file, want []byte
	for i, command := range lz4Commands() {
		data := toolText(100<<10 + i)
		frame := toolRun(t, data, command)
		toolDiskErrors(t, openLZ4, frame)
		file = slices.Concat(file, lz4Skipped(i), toolRun(t, nil, command), frame)
		want = append(want, data...)
	}
	file = append(file, lz4Skipped(100)...)
	toolCheck(t, openLZ4, file, want)
	// Only skippable ones.
	toolCheck(t, openLZ4, lz4Skipped(9), nil)
}

func TestLZ4Cut(t *testing.T) {
	data := toolText(300 << 10)
	for _, command := range lz4Commands() {
		file := toolRun(t, data, command)
		legacy := binary.LittleEndian.Uint32(file) == lz4Legacy
		toolCuts(t, openLZ4, file, data, func(cut int) bool { return legacy && cut == 4 })
	}
	one := toolRun(t, data, "lz4 -c -B4")
	two := slices.Concat(one, lz4Skipped(50), one)
	toolCuts(t, openLZ4, two, slices.Concat(data, data), func(cut int) bool { return cut == len(one) || cut == len(one)+58 })
}

// Where frames have a checksum, no change goes unseen in the order of the file, also
// where each block is a segment.
func TestLZ4Flips(t *testing.T) {
	data := toolText(300 << 10)
	for _, command := range lz4Commands() {
		if command != "lz4 -c -l" && !strings.Contains(command, "--no-frame-crc") {
			toolFlips(t, openLZ4, toolRun(t, data, command), data)
		}
	}
}

func TestLZ4EveryBit(t *testing.T) {
	testenv.Long(t)
	for _, command := range lz4Commands() {
		if command != "lz4 -c -l" && command != "lz4 -c --no-frame-crc" {
			// A block's own checksum is of what is packed, not of whether it is.
			overlooked := func(at int, _ []byte) bool { return strings.Contains(command, "--no-frame-crc") && at == 10 }
			toolEveryBit(t, openLZ4, toolRun(t, toolText(300), command), overlooked)
		}
	}
}

// With checksums of blocks it isn't needed to read in order.
func TestLZ4FlipInBlock(t *testing.T) {
	data := noise(2, 300<<10)
	file := toolRun(t, data, "lz4 -c -B4 -BX --no-frame-crc")
	parts := toolCheck(t, openLZ4, file, data)
	bad := bytes.Clone(file)
	bad[parts[3].at.in+1000] ^= 4
	for i, p := range parts[1:] {
		seg, err := openLZ4(bytes.NewReader(bad), int64(len(bad)), p.at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(seg)
		if i+1 == 3 && (!errors.Is(err, ErrCorrupt) || len(got) > 0) {
			t.Errorf("changed block: %d bytes, %v", len(got), err)
		}
		if i+1 != 3 && (err != nil || !bytes.Equal(got, p.data)) {
			t.Errorf("block %d: %v", i+1, err)
		}
	}
}

// lz4Frame makes a frame by hand.
func lz4Frame(flags, sizes byte, more []byte, blocks ...[]byte) []byte {
	head := append([]byte{flags, sizes}, more...)
	b := binary.LittleEndian.AppendUint32(nil, lz4Magic)
	b = append(append(b, head...), byte(xxh32Of(head)>>8))
	for _, block := range blocks {
		b = append(b, block...)
	}
	return append(b, 0, 0, 0, 0)
}

func lz4Stored(data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))|1<<31), data...)
}

func TestLZ4ByHand(t *testing.T) {
	size := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	legacy := binary.LittleEndian.AppendUint32(nil, lz4Legacy)
	ok := lz4Frame(0x68, 0x40, size(4), lz4Stored([]byte("abcd")))
	toolCheck(t, openLZ4, ok, []byte("abcd"))
	toolCheck(t, openLZ4, lz4Frame(0x60, 0x40, nil, lz4Stored(make([]byte, 64<<10))), make([]byte, 64<<10))
	tests := []struct {
		name string
		file []byte
		want error
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"not LZ4", []byte("not LZ4"), ErrCorrupt},
		{"something at the end", slices.Concat(ok, []byte("more")), ErrCorrupt},
		{"dictionary", lz4Frame(0x61, 0x40, []byte{1, 2, 3, 4}), ErrUnsupported},
		{"version", lz4Frame(0xa0, 0x40, nil), ErrCorrupt},
		{"reserved flag", lz4Frame(0x62, 0x40, nil), ErrCorrupt},
		{"block size code", lz4Frame(0x60, 0x30, nil), ErrCorrupt},
		{"less than the size", lz4Frame(0x68, 0x40, size(5), lz4Stored([]byte("abcd"))), ErrCorrupt},
		{"more than the size", lz4Frame(0x68, 0x40, size(3), lz4Stored([]byte("abcd"))), ErrCorrupt},
		{"size without blocks", lz4Frame(0x68, 0x40, size(3)), ErrCorrupt},
		{"size that can't be", lz4Frame(0x68, 0x40, size(1<<60)), ErrCorrupt},
		{"stored block too large", lz4Frame(0x60, 0x40, nil, lz4Stored(make([]byte, 64<<10+1))), ErrCorrupt},
		// A literal, and a match of 70000 bytes with it.
		{"unpacks to too much", lz4Frame(0x60, 0x40, nil, lz4Long()), ErrCorrupt},
		{"refers to before the frame", lz4Frame(0x40, 0x40, nil, []byte{4, 0, 0, 0, 0x10, 'a', 9, 0}), ErrCorrupt},
		{"legacy block too large", append(slices.Clip(legacy), 0, 0, 0x81, 0), ErrCorrupt},
		{"legacy block empty", append(slices.Clip(legacy), 0, 0, 0, 0), ErrCorrupt},
		{"skippable frame cut off", lz4Skipped(9)[:12], io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		parts, err := toolWalk(openLZ4, test.file)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if got := toolJoin(parts); test.name == "more than the size" && len(got) > 0 {
			t.Errorf("%s: gives %q", test.name, got)
		}
	}
	for _, at := range []place{{in: 15}, {15, 3}, {15, -1}, {-1, 4}} {
		if _, err := openLZ4(bytes.NewReader(ok), int64(len(ok)), at); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v: %v", at, err)
		}
	}
}

func lz4Long() []byte {
	block := append([]byte{0x1f, 'a', 1, 0}, bytes.Repeat([]byte{255}, 270)...)
	block = append(block, 0, 0x50, 'a', 'b', 'c', 'd', 'e')
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(block))), block...)
}

func TestLZ4Mutations(t *testing.T) {
	toolMutate(t, openLZ4, lz4Commands(), 150<<10, 2000)
}

func TestXXH32(t *testing.T) {
	// From the specification's implementation.
	for text, want := range map[string]uint32{"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff, "Nobody inspects the spammish repetition": 0xe2293b2f} {
		if got := xxh32Of([]byte(text)); got != want {
			t.Errorf("%q: %x, want %x", text, got, want)
		}
	}
	data, r := noise(3, 5000), toolRand(3)
	for range 200 {
		x := newXXH32()
		for at := 0; at < len(data); {
			n := min(len(data)-at, r.IntN(70))
			x.write(data[at : at+n])
			at += n
		}
		if x.sum() != xxh32Of(data) {
			t.Fatal("in pieces it differs")
		}
	}
}

func BenchmarkLZ4(b *testing.B) {
	data := toolText(20 << 20)
	for _, command := range []string{"lz4 -c", "lz4 -c -B4", "lz4 -c -B4 -BD", "lz4 -c -BX", "lz4 -c -l"} {
		file := toolRun(b, data, command)
		b.Run(command, func(b *testing.B) { toolSpeed(b, openLZ4, file, len(data)) })
	}
}
