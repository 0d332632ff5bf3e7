package packed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// toolRun is tool, for a command in one string.
func toolRun(t testing.TB, in []byte, command string) []byte {
	t.Helper()
	return tool(t, in, strings.Fields(command)...)
}

func toolRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// toolText is much like text, with runs of zeros in between.
func toolText(n int) []byte {
	r := toolRand(uint64(n))
	words := make([][]byte, 300)
	for i := range words {
		words[i] = noise(uint64(i), 2+r.IntN(12))
	}
	b := make([]byte, 0, n+(200<<10))
	for len(b) < n {
		if r.IntN(20000) == 0 {
			b = append(b, make([]byte, r.IntN(200<<10))...)
		}
		b = append(b, words[r.IntN(len(words))]...)
	}
	return b[:n]
}

type toolContent struct {
	name string
	data []byte
}

func toolContents() []toolContent {
	return []toolContent{
		{"empty", nil},
		{"byte", []byte("x")},
		{"noise", noise(1, 3<<20)},
		{"text", toolText(20 << 20)},
	}
}

type toolPart struct {
	at   place
	data []byte
}

// toolFollow hands on what segments tell each other, as a reader in order does.
func toolFollow(seg, before segment) {
	if f, ok := seg.(follower); ok && before != nil {
		f.follow(before)
	}
}

// toolWalk unpacks a file segment by segment. Where it fails it gives what came
// before that.
func toolWalk(open opener, file []byte) (parts []toolPart, err error) {
	src := bytes.NewReader(file)
	var before segment
	at := place{}
	for {
		seg, err := open(src, int64(len(file)), at)
		if err != nil {
			return parts, err
		}
		toolFollow(seg, before)
		data, err := io.ReadAll(seg)
		parts = append(parts, toolPart{at, data})
		if err != nil {
			return parts, err
		}
		next, more := seg.next()
		seg.close()
		if !more {
			return parts, nil
		}
		if next.in <= at.in {
			return parts, fmt.Errorf("after %d comes %d", at.in, next.in)
		}
		at, before = next, seg
	}
}

func toolJoin(parts []toolPart) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p.data...)
	}
	return all
}

// toolCheck walks a file, and opens its segments again, the last one first.
func toolCheck(t *testing.T, open opener, file, want []byte) []toolPart {
	t.Helper()
	parts, err := toolWalk(open, file)
	if err != nil {
		t.Fatalf("walk: %v", err)
	}
	if !bytes.Equal(toolJoin(parts), want) {
		t.Fatalf("the walk gives other bytes: %d of %d", len(toolJoin(parts)), len(want))
	}
	for i, p := range slices.Backward(parts) {
		seg, err := open(bytes.NewReader(file), int64(len(file)), p.at)
		if err != nil {
			t.Fatalf("%+v: %v", p.at, err)
		}
		got, err := io.ReadAll(seg)
		if err != nil || !bytes.Equal(got, p.data) {
			t.Fatalf("%+v alone: %d bytes and %v, want %d", p.at, len(got), err, len(p.data))
		}
		next, more := seg.next()
		if more != (i < len(parts)-1) || more && next != parts[i+1].at {
			t.Fatalf("%+v alone: next is %+v, %v", p.at, next, more)
		}
		seg.close()
	}
	return parts
}

// toolKnown fails where an error is of no kind that the package tells.
func toolKnown(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if errors.As(err, &e) {
		if e.Err == nil || e.Reason == "" || strings.Contains(e.Error(), "\n") || e.Pos < 0 {
			t.Fatalf("error %+v", e)
		}
		return
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("error %v (%T)", err, err)
	}
}

// toolCuts cuts a file at many places. At those that are boundaries the format
// can't tell that it was cut.
func toolCuts(t *testing.T, open opener, file, want []byte, boundary func(cut int) bool) {
	t.Helper()
	r := toolRand(uint64(len(file)))
	cuts := []int{}
	for i := range min(50, len(file)) {
		cuts = append(cuts, i, len(file)-1-i)
	}
	for range 60 {
		cuts = append(cuts, r.IntN(len(file)))
	}
	for _, cut := range cuts {
		parts, err := toolWalk(open, file[:cut])
		if err == nil {
			if !boundary(cut) {
				t.Fatalf("cut at %d of %d: no error", cut, len(file))
			}
		} else if toolKnown(t, err); !errors.Is(err, ErrIncomplete) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d of %d: %v", cut, len(file), err)
		}
		if !bytes.HasPrefix(want, toolJoin(parts)) {
			t.Fatalf("cut at %d of %d: wrong bytes", cut, len(file))
		}
	}
}

// toolFlips changes single bits: no wrong byte comes without an error.
func toolFlips(t *testing.T, open opener, file, want []byte) {
	t.Helper()
	r := toolRand(uint64(len(file)))
	for i := range 150 {
		at := r.IntN(len(file))
		switch {
		case i < 30:
			at = i % len(file)
		case i < 60:
			at = max(0, len(file)-1-(i-30))
		}
		bad := bytes.Clone(file)
		bad[at] ^= 1 << r.IntN(8)
		parts, err := toolWalk(open, bad)
		if err != nil {
			toolKnown(t, err)
		} else if !bytes.Equal(toolJoin(parts), want) {
			t.Fatalf("byte %d of %d changed: wrong bytes and no error", at, len(file))
		}
	}
}

// toolEveryBit changes each bit of a file: that is always seen, but where it may be
// overlooked.
func toolEveryBit(t *testing.T, open opener, file []byte, overlooked func(at int, got []byte) bool) {
	t.Helper()
	for at := range file {
		for bit := range 8 {
			bad := bytes.Clone(file)
			bad[at] ^= 1 << bit
			parts, err := toolWalk(open, bad)
			if err != nil {
				toolKnown(t, err)
			} else if !overlooked(at, toolJoin(parts)) {
				t.Errorf("bit %d of byte %d of %d changed: no error", bit, at, len(file))
			}
		}
	}
}

// toolMutate packs short texts and ones of size bytes, changes the files, and throws them
// at the opener, and places that aren't any.
func toolMutate(t *testing.T, open opener, commands []string, size, rounds int) {
	t.Helper()
	var files [][]byte
	for _, command := range commands {
		files = append(files, toolRun(t, toolText(2000), command), toolRun(t, toolText(size), command))
	}
	files = append(files, slices.Concat(files...))
	r := toolRand(7)
	for range rounds {
		file := bytes.Clone(files[r.IntN(len(files))])
		for range 1 + r.IntN(6) {
			switch i := r.IntN(len(file)); r.IntN(5) {
			case 0:
				file = file[:i+1]
			case 1:
				file = append(file[:i:i], file[r.IntN(len(file)):]...)
			case 2:
				file[i] = byte(r.Uint32())
			case 3:
				file[i] ^= 1 << r.IntN(8)
			case 4:
				n := min(r.IntN(9), len(file)-i)
				copy(file[i:], bytes.Repeat([]byte{byte(r.IntN(2) * 255)}, n))
			}
			if len(file) == 0 {
				file = []byte{0}
			}
		}
		if _, err := toolWalk(open, file); err != nil {
			toolKnown(t, err)
		}
		at := place{r.Int64N(int64(len(file))*9 + 9), r.Int64() >> r.IntN(64)}
		if r.IntN(9) == 0 {
			at = place{int64(r.Uint64()), int64(r.Uint64())}
		}
		seg, err := open(bytes.NewReader(file), int64(len(file)), at)
		if err == nil {
			_, err = io.Copy(io.Discard, seg)
			seg.close()
		}
		if err != nil {
			toolKnown(t, err)
		}
	}
}

var errTool = errors.New("the disk is gone")

// A toolDisk can't read one byte, and reports what is read outside of the file.
type toolDisk struct {
	t    *testing.T
	data []byte
	bad  int64
}

func (d toolDisk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(d.data)) {
		d.t.Errorf("read of %d bytes at %d of %d", len(p), off, len(d.data))
	}
	if off <= d.bad && d.bad < off+int64(len(p)) {
		return 0, errTool
	}
	return bytes.NewReader(d.data).ReadAt(p, off)
}

// toolDiskErrors sees that errors of the source arrive. No byte of the file may be
// one that isn't looked at.
func toolDiskErrors(t *testing.T, open opener, file []byte) {
	t.Helper()
	for i := range 40 {
		bad := int64(len(file)) * int64(i) / 40
		var err error
		for at, more := (place{}), true; more && err == nil; {
			var seg segment
			if seg, err = open(toolDisk{t, file, bad}, int64(len(file)), at); err == nil {
				_, err = io.Copy(io.Discard, seg)
				at, more = seg.next()
			}
		}
		if !errors.Is(err, errTool) {
			t.Fatalf("bad byte %d: %v", bad, err)
		}
	}
}

// toolSpeed measures a walk.
func toolSpeed(b *testing.B, open opener, file []byte, size int) {
	b.SetBytes(int64(size))
	buf := make([]byte, 1<<20)
	for b.Loop() {
		src := bytes.NewReader(file)
		for at, more := (place{}), true; more; {
			seg, err := open(src, int64(len(file)), at)
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				_, err = seg.Read(buf)
			}
			if err != io.EOF {
				b.Fatal(err)
			}
			at, more = seg.next()
			seg.close()
		}
	}
}
