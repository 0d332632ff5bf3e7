package packed

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"rbdbackupfs/internal/testenv"
)

func bzip2Commands() []string {
	return []string{"bzip2 -c -1", "bzip2 -c -9", "pbzip2 -c -p2 -b1 -1", "pbzip2 -c -p2"}
}

func TestBzip2(t *testing.T) {
	// The decoder is slow: smaller than for others.
	contents := []toolContent{{"empty", nil}, {"byte", []byte("x")}, {"noise", noise(1, 2<<20)}, {"text", toolText(3 << 20)}}
	for _, command := range bzip2Commands() {
		for _, c := range contents {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				if len(c.data) > 1 {
					testenv.Long(t)
				}
				toolCheck(t, openBzip2, toolRun(t, c.data, command), c.data)
			})
		}
	}
	testenv.Long(t)
	// One block of bzip2 is 46 MB of zeros.
	zeros := make([]byte, 50<<20)
	toolCheck(t, openBzip2, toolRun(t, zeros, "bzip2 -c"), zeros)
}

// Blocks begin at any bit, and every one of them is a segment.
func TestBzip2Blocks(t *testing.T) {
	data := noise(4, 2<<20)
	parts := toolCheck(t, openBzip2, toolRun(t, data, "bzip2 -c -1"), data)
	if len(parts) != 21 && len(parts) != 22 {
		t.Errorf("%d segments", len(parts))
	}
	shifts := map[int64]bool{}
	for _, p := range parts {
		shifts[p.at.in%8] = true
	}
	if len(shifts) < 6 {
		t.Errorf("blocks begin at bits %v", shifts)
	}
}

func TestBzip2Streams(t *testing.T) {
	var file, want []byte
	empty := toolRun(t, nil, "bzip2 -c")
	for i := range 12 {
		data := toolText(150<<10 + i)
		file = slices.Concat(file, empty, empty, toolRun(t, data, bzip2Commands()[i%2]))
		want = append(want, data...)
	}
	toolCheck(t, openBzip2, file, want)
	toolCheck(t, openBzip2, slices.Concat(file, empty), want)
	toolCheck(t, openBzip2, slices.Concat(file, make([]byte, 100<<10)), want)
	toolCheck(t, openBzip2, bytes.Repeat(empty, 10000), nil)
	toolDiskErrors(t, openBzip2, file)
	for _, more := range []string{"\x00\x00\x00x", "BZh0", "more", "BX"} {
		parts, err := toolWalk(openBzip2, append(slices.Clip(file), more...))
		if !errors.Is(err, ErrCorrupt) || !bytes.Equal(toolJoin(parts), want) {
			t.Errorf("%q at the end: %v", more, err)
		}
	}
	for _, bad := range []string{"", "B", "BZ", "BZh9"} {
		if _, err := toolWalk(openBzip2, []byte(bad)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"\x00\x00\x00\x00\x00", "not bzip2", "BZh9 and nothing else"} {
		if _, err := toolWalk(openBzip2, []byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBzip2Cut(t *testing.T) {
	data := toolText(250 << 10)
	for _, command := range bzip2Commands() {
		file := toolRun(t, data, command)
		bounds := []int{len(file)}
		for i := range len(file) {
			if bytes.HasPrefix(file[i:], []byte("BZh")) {
				bounds = append(bounds, i)
			}
		}
		toolCuts(t, openBzip2, file, data, func(cut int) bool { return cut > 0 && slices.Contains(bounds, cut) })
	}
}

func TestBzip2Flips(t *testing.T) {
	data := toolText(250 << 10)
	toolFlips(t, openBzip2, toolRun(t, data, "bzip2 -c -1"), data)
	toolFlips(t, openBzip2, toolRun(t, data, "pbzip2 -c -1 -b1"), data)
}

func TestBzip2EveryBit(t *testing.T) {
	testenv.Long(t)
	// Not every code that a block has is made use of.
	data := toolText(300)
	same := func(_ int, got []byte) bool { return bytes.Equal(got, data) }
	toolEveryBit(t, openBzip2, toolRun(t, data, "bzip2 -c -1"), same)
}

// A block that is missing, or there twice, is in order by itself: only the checksum
// of the stream tells.
func TestBzip2StreamSum(t *testing.T) {
	data := noise(5, 3<<20)
	file := toolRun(t, data, "bzip2 -c -1")
	for i, p := range toolCheck(t, openBzip2, file, data) {
		if p.at.in == 0 || p.at.in%8 != 0 {
			continue
		}
		// From the header right on to this block.
		bad := slices.Concat(file[:4], file[p.at.in/8:])
		if _, err := toolWalk(openBzip2, bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("without %d blocks: %v", i, err)
		}
		return
	}
	t.Fatal("no block begins at a byte")
}

func TestBzip2OldKind(t *testing.T) {
	file := toolRun(t, []byte("hello"), "bzip2 -c")
	file[14] |= 0x80
	var e *Error
	if _, err := toolWalk(openBzip2, file); !errors.As(err, &e) || !errors.Is(err, ErrUnsupported) || e.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestBzip2Mutations(t *testing.T) {
	toolMutate(t, openBzip2, bzip2Commands(), 150<<10, 300)
}

func BenchmarkBzip2(b *testing.B) {
	for _, c := range toolContents()[2:] {
		data := c.data[:3<<20]
		file := toolRun(b, data, "bzip2 -c")
		b.Run(c.name, func(b *testing.B) { toolSpeed(b, openBzip2, file, len(data)) })
	}
}
