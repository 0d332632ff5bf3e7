package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"testing"

	"rbdbackupfs/internal/testenv"
)

func xzCommands() []string {
	return []string{
		"xz -c -0 -T1", "xz -c -0 -T0 --block-size=1MiB", "xz -c -0 -T1 --block-size=1MiB",
		"xz -c -0 --check=crc32", "xz -c -0 --check=crc64 -T0 --block-size=2MiB", "xz -c -0 --check=sha256",
	}
}

func TestXZ(t *testing.T) {
	contents := append(toolContents(), toolContent{"text small", toolText(5 << 20)})
	for i, command := range xzCommands() {
		for _, c := range contents {
			if i > 0 && len(c.data) > 5<<20 {
				continue // the decoder is slow
			}
			t.Run(command+"/"+c.name, func(t *testing.T) {
				if len(c.data) > 1 {
					testenv.Long(t)
				}
				toolCheck(t, openXZ, toolRun(t, c.data, command), c.data)
			})
		}
	}
	data := contents[4].data
	toolCheck(t, openXZ, toolRun(t, data, "xz -c -6"), data)
	toolCheck(t, openXZ, toolRun(t, data, "xz -c --lzma2=preset=1,dict=4KiB,lc=0,lp=4"), data)
}

func TestXZBlocks(t *testing.T) {
	data := toolText(5 << 20)
	for command, want := range map[string]int{"xz -c -0 -T1": 1, "xz -c -0 -T2 --block-size=1MiB": 5, "xz -c -0 -T1 --block-size=1MiB": 5} {
		if parts := toolCheck(t, openXZ, toolRun(t, data, command), data); len(parts) != want {
			t.Errorf("%s: %d segments, want %d", command, len(parts), want)
		}
	}
}

func TestXZStreams(t *testing.T) {
	var file, want []byte
	empty := toolRun(t, nil, "xz -c")
	for i, command := range xzCommands() {
		data := toolText(150<<10 + i)
		file = slices.Concat(file, empty, make([]byte, 4*i), toolRun(t, data, command), make([]byte, 4*(i%2)))
		want = append(want, data...)
	}
	toolCheck(t, openXZ, file, want)
	toolCheck(t, openXZ, slices.Concat(file, empty), want)
	toolCheck(t, openXZ, slices.Concat(file, make([]byte, 200<<10)), want)
	toolCheck(t, openXZ, bytes.Repeat(empty, 3000), nil)
	toolDiskErrors(t, openXZ, file)
	toolDiskErrors(t, openXZ, toolRun(t, noise(9, 400<<10), "xz -c -0"))
	for _, more := range []string{"\x00", "\x00\x00\x00", "\x00\x00\x00\x00\x00", "more", "something YZ"} {
		if _, err := toolWalk(openXZ, append(slices.Clip(file), more...)); err == nil {
			t.Errorf("%q at the end: no error", more)
		}
	}
	for bad, want := range map[string]error{
		"": io.ErrUnexpectedEOF, "\xfd7zX": io.ErrUnexpectedEOF,
		"not xz, for sure": ErrCorrupt, string(make([]byte, 100)): ErrCorrupt,
	} {
		if _, err := toolWalk(openXZ, []byte(bad)); !errors.Is(err, want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestXZCut(t *testing.T) {
	data := toolText(250 << 10)
	never := func(int) bool { return false }
	for _, command := range xzCommands() {
		toolCuts(t, openXZ, toolRun(t, data, command), data, never)
	}
	toolCuts(t, openXZ, toolRun(t, data, "xz -c -0 --block-size=32KiB"), data, never)
	one := toolRun(t, data[:8<<10], "xz -c -0")
	padded := slices.Concat(one, make([]byte, 40), one)
	boundary := func(cut int) bool { return cut >= len(one) && cut <= len(one)+40 && cut%4 == 0 }
	toolCuts(t, openXZ, padded, slices.Concat(data[:8<<10], data[:8<<10]), boundary)
	for cut := range len(one) {
		if cut >= len(xzMagic)+6 {
			if _, err := toolWalk(openXZ, one[:cut]); !errors.Is(err, ErrIncomplete) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
	}
	// Of most it is found out before anything is unpacked.
	var e *Error
	_, err := openXZ(bytes.NewReader(one[:len(one)/2]), int64(len(one)/2), place{})
	if !errors.As(err, &e) || !errors.Is(err, ErrIncomplete) || e.Pos != int64(len(one)/2) {
		t.Errorf("half a file: %v", err)
	}
}

func TestXZFlips(t *testing.T) {
	data := toolText(100 << 10)
	for _, command := range xzCommands() {
		toolFlips(t, openXZ, toolRun(t, data, command), data)
	}
	file := toolRun(t, data, "xz -c -0 --block-size=16KiB")
	toolFlips(t, openXZ, file, data)
	toolFlips(t, openXZ, slices.Concat(file, make([]byte, 8), file), slices.Concat(data, data))
}

func TestXZEveryBit(t *testing.T) {
	testenv.Long(t)
	data := toolText(300)
	file := slices.Concat(toolRun(t, data, "xz -c -0 -T2 --block-size=100"), make([]byte, 4), toolRun(t, data, "xz -c -0 --check=sha256"))
	for n := range 4 { // of noise, so that all lengths of padding are there
		file = append(file, toolRun(t, noise(1, 30+n), "xz -c -0 --check=crc32")...)
	}
	toolEveryBit(t, openXZ, file, func(int, []byte) bool { return false })
}

// The sizes in a block's header, with a checksum that is right.
func TestXZSizes(t *testing.T) {
	data := noise(8, 300)
	file := toolRun(t, data, "xz -c -0 -T2 --block-size=1MiB")
	head := file[xzHeadSize:][:(int(file[xzHeadSize])+1)*4]
	if head[1] != 0xc0 {
		t.Fatalf("flags %x", head[1])
	}
	for at := 2; at < 6; at += 2 { // two bytes each
		for _, by := range []byte{1, 255} {
			bad := bytes.Clone(file)
			bad[xzHeadSize+at] += by
			end := xzHeadSize + len(head) - 4
			binary.LittleEndian.PutUint32(bad[end:], crc32.ChecksumIEEE(bad[xzHeadSize:end]))
			if _, err := toolWalk(openXZ, bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d: %v", at, err)
			}
		}
	}
}

// A block that is missing, or there twice, is in order by itself: only the index
// tells.
func TestXZIndex(t *testing.T) {
	data := bytes.Repeat(noise(6, 16<<10), 5)
	file := toolRun(t, data, "xz -c -0 --block-size=16KiB")
	parts := toolCheck(t, openXZ, file, data)
	second, third := parts[1].at.in, parts[2].at.in
	for name, bad := range map[string][]byte{
		"missing": slices.Concat(file[:second], file[third:]),
		"twice":   slices.Concat(file[:third], file[second:]),
	} {
		if _, err := toolWalk(openXZ, bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("block %s: %v", name, err)
		}
	}
}

// The index and the footer, with checksums that are right.
func TestXZTail(t *testing.T) {
	data := noise(8, 1000)
	file := toolRun(t, data, "xz -c -0 --check=crc32")
	foot := len(file) - xzHeadSize
	index := foot - 4*(1+int(binary.LittleEndian.Uint32(file[foot+4:])))
	tests := map[string]func(b []byte){
		"no block":        func(b []byte) { b[index+1] = 0 },
		"many blocks":     func(b []byte) { b[index+1] = 100 },
		"other packed":    func(b []byte) { b[index+2] ^= 1 },
		"other unpacked":  func(b []byte) { b[index+4] ^= 1 },
		"backward size":   func(b []byte) { b[foot+4]++ },
		"footer's check":  func(b []byte) { b[foot+9] = xzCRC64 },
		"footer reserved": func(b []byte) { b[foot+8] = 1 },
	}
	for name, change := range tests {
		bad := bytes.Clone(file)
		change(bad)
		binary.LittleEndian.PutUint32(bad[foot-4:], crc32.ChecksumIEEE(bad[index:foot-4]))
		binary.LittleEndian.PutUint32(bad[foot:], crc32.ChecksumIEEE(bad[foot+4:foot+10]))
		if _, err := toolWalk(openXZ, bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestXZUnsupported(t *testing.T) {
	data := toolText(10000)
	plain := toolRun(t, data, "xz -c -0")
	check := bytes.Clone(plain)
	check[7] = 2
	binary.LittleEndian.PutUint32(check[8:], crc32.ChecksumIEEE(check[6:8]))
	dict := bytes.Clone(plain)
	dict[xzHeadSize+4] = 40
	size := (int(dict[xzHeadSize]) + 1) * 4
	binary.LittleEndian.PutUint32(dict[xzHeadSize+size-4:], crc32.ChecksumIEEE(dict[xzHeadSize:xzHeadSize+size-4]))
	for name, file := range map[string][]byte{
		"x86":        toolRun(t, data, "xz -c --x86 --lzma2=preset=0"),
		"delta":      toolRun(t, data, "xz -c --delta=dist=4 --lzma2=preset=0"),
		"check":      check,
		"no check":   toolRun(t, data, "xz -c -0 --check=none"),
		"dictionary": dict,
	} {
		var e *Error
		if _, err := toolWalk(openXZ, file); !errors.As(err, &e) || !errors.Is(err, ErrUnsupported) || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestXZMutations(t *testing.T) {
	toolMutate(t, openXZ, append(xzCommands(), "xz -c -0 --block-size=4KiB"), 50<<10, 1500)
}

func BenchmarkXZ(b *testing.B) {
	contents := toolContents()[2:]
	contents = append(contents, toolContent{"zeros", make([]byte, 20<<20)})
	for _, c := range contents {
		file := toolRun(b, c.data, "xz -c -1 -T0 --block-size=4MiB")
		b.Run(c.name, func(b *testing.B) { toolSpeed(b, openXZ, file, len(c.data)) })
	}
}
