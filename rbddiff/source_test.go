package rbddiff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// counted counts what is asked of a file.
type counted struct {
	*bytes.Reader
	reads, bytes int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.reads++
	c.bytes += n
	return n, err
}

// sized is a diff v1 of n data records of that length, one behind the other.
func sized(t testing.TB, n int, length int64) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, DiffV1)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, length)
	recs := []Record{{Kind: DiffStart}, {Kind: To, Name: "snap"}, {Kind: Size, Size: int64(n) * length}}
	for i := range n {
		recs = append(recs, Record{Kind: Data, Offset: int64(i) * length, Length: length})
	}
	for _, rec := range append(recs, Record{Kind: End}) {
		err = errors.Join(err, w.WriteRecord(rec))
		if rec.Kind == Data {
			_, writeErr := w.Write(data)
			err = errors.Join(err, writeErr)
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestReads: large records cost one small read each, small ones share a read.
func TestReads(t *testing.T) {
	tests := []struct {
		n        int
		length   int64
		maxReads int
		maxBytes int
	}{
		{20, 1 << 20, 22, 22 * headRead},
		{500, 64 << 10, 502, 502 * headRead},
		{5000, 4 << 10, 400, 21 << 20},
		{100000, 0, 40, 2 << 20},
	}
	for _, test := range tests {
		src := &counted{Reader: bytes.NewReader(sized(t, test.n, test.length))}
		info, err := Scan(src, -1)
		if err != nil || info.Steps[0].Records != int64(test.n) {
			t.Fatal(info, err)
		}
		if src.reads > test.maxReads || src.bytes > test.maxBytes {
			t.Errorf("%d records of %d: %d reads of %d bytes", test.n, test.length, src.reads, src.bytes)
		}
	}
}

// TestAllocations: none per record.
func TestAllocations(t *testing.T) {
	few, many := sized(t, 10, 64), sized(t, 10000, 64)
	count := func(content []byte) float64 {
		return testing.AllocsPerRun(5, func() { Scan(bytes.NewReader(content), -1) })
	}
	if a, b := count(few), count(many); b > a+2 {
		t.Errorf("%v allocations for 10 records, %v for 10000", a, b)
	}
}

// TestPayload: what is read of a record's data is right, whatever is left
// unread, and the file's data is not read twice.
func TestPayload(t *testing.T) {
	content := v1(sizeV1(100), dataV1(0, "abcdef"), dataV1(50, ""), dataV1(10, strings.Repeat("x", 90)), "e")
	for _, src := range []io.Reader{strings.NewReader(content), streamOnly{strings.NewReader(content)}, iotest.OneByteReader(strings.NewReader(content))} {
		r, err := NewReader(src)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 5)); n != 0 || err != io.EOF {
			t.Error("payload before any record:", n, err)
		}
		var got []string
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if rec.Kind == Data {
				part, err := io.ReadAll(io.LimitReader(r, 3))
				got = append(got, fmt.Sprintf("%d~%d@%d %s %v", rec.Offset, rec.Length, rec.DataPos, part, err))
			}
		}
		want := "[0~6@38 abc <nil> 50~0@61  <nil> 10~90@78 xxx <nil>]"
		if fmt.Sprint(got) != want {
			t.Errorf("%v, want %v", got, want)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Error("after the end:", err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Error("payload after the end:", n, err)
		}
	}
}

// TestPayloadCut: Read says that the file ends inside the data, and so does Next after it.
func TestPayloadCut(t *testing.T) {
	content := v1(sizeV1(100), dataV1(0, "abcdef"))
	content = content[:len(content)-2]
	for _, src := range []io.Reader{strings.NewReader(content), streamOnly{strings.NewReader(content)}} {
		r, err := NewReader(src)
		for err == nil {
			var rec Record
			if rec, err = r.Next(); rec.Kind == Data {
				var got []byte
				got, err = io.ReadAll(r)
				if string(got) != "abcd" {
					t.Errorf("data %q", got)
				}
			}
		}
		if wrong := checkError(err, ErrIncomplete, int64(len(content)), "2 bytes short"); wrong != nil {
			t.Error(wrong)
		}
		if _, again := r.Next(); !errors.Is(again, err) {
			t.Errorf("Next: %v, want %v", again, err)
		}
	}
}

// TestPipe: an *os.File can be a seeker that can't seek.
func TestPipe(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	content := sized(t, 10, 64<<10)
	go func() {
		defer out.Close()
		out.Write(content)
	}()
	info, err := Scan(in, -1)
	if err != nil || info.Steps[0].Records != 10 {
		t.Error(info, err)
	}
}

// TestSourceErrors: an error of the source is passed on, and is neither an end
// nor a verdict on the file.
func TestSourceErrors(t *testing.T) {
	content := v1(sizeV1(100), dataV1(0, "abcdef"), "e")
	broken := errors.New("input/output error")
	tests := []struct {
		name string
		fail error
		want error
	}{
		{"error", broken, broken},
		{"wrapped end", fmt.Errorf("share: %w", io.EOF), ErrIncomplete},
		{"a decompressor's end", io.ErrUnexpectedEOF, ErrIncomplete},
	}
	for _, test := range tests {
		for n := range len(content) {
			src := io.MultiReader(strings.NewReader(content[:n]), iotest.ErrReader(test.fail))
			_, err := Scan(src, -1)
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, test.want) || errors.Is(err, io.EOF) || e.Hint == "" {
				t.Fatalf("%s after %d bytes: %v", test.name, n, err)
			}
		}
	}
	stuck := io.MultiReader(strings.NewReader(content[:20]), stuckReader{})
	if _, err := Scan(stuck, -1); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// shortSeeker refuses offsets as file systems do that are past their limit.
type shortSeeker struct{ *strings.Reader }

func (s shortSeeker) Seek(off int64, whence int) (int64, error) {
	if off > 1<<20 {
		return 0, os.ErrInvalid
	}
	return s.Reader.Seek(off, whence)
}

func TestSeekRefused(t *testing.T) {
	content := v1(nameV1("f", "a"), "w"+le64(0)+le64(1<<50))
	_, err := Scan(shortSeeker{strings.NewReader(content)}, -1)
	if wrong := checkError(err, ErrIncomplete, int64(len(content)), "1125899906842624 bytes short"); wrong != nil {
		t.Error(wrong)
	}
}

// TestStartInside: positions are those of the file, and NewDiffReader finds
// each step that Scan found, seeking or not.
func TestStartInside(t *testing.T) {
	for _, name := range []string{"real/a.v2", "real/c.v2", "real/s.ab.d"} {
		content := exports(t)[name]
		info, err := Scan(bytes.NewReader(content), -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range info.Steps {
			at := bytes.NewReader(content[step.Pos:])
			for kind, src := range map[string]io.Reader{"seek": bytes.NewReader(content), "stream": streamOnly{at}} {
				r, err := NewDiffReader(src, info.Format, step.Pos)
				if err != nil {
					t.Fatal(err)
				}
				again := &Info{}
				s := scanner{r: r, info: again}
				if err := s.run(); err != nil || len(again.Steps) != 1 || again.Steps[0] != step {
					t.Errorf("%s, %s: %+v, %v, want %+v", name, kind, again.Steps, err, step)
				}
			}
		}
	}
	content := append([]byte("in front"), exports(t)["real/c.h.d"]...)
	src := bytes.NewReader(content)
	src.Seek(8, io.SeekStart)
	info, err := Scan(src, int64(len(content))-8)
	if err != nil || info.Steps[0].Pos != 8 || info.Steps[0].End != int64(len(content)) {
		t.Error(info, err)
	}
}

// TestFarInside: data that would end past the largest offset of any file.
func TestFarInside(t *testing.T) {
	const pos = 1 << 40
	content := v1(nameV1("f", "a"), "w"+le64(0)+le64(MaxSize), "e")
	r, err := NewDiffReader(streamOnly{strings.NewReader(content)}, DiffV1, pos)
	for err == nil {
		_, err = r.Next()
	}
	if wrong := checkError(err, ErrCorrupt, pos+18, "longer than any file"); wrong != nil {
		t.Error(wrong)
	}
}

// TestHeaderSum: equal for the same diff in both formats, different for others.
func TestHeaderSum(t *testing.T) {
	sums := make(map[uint64]string)
	add := func(name, content string, same bool) {
		info, err := Scan(strings.NewReader(content), -1)
		if err != nil {
			t.Fatal(name, err)
		}
		sum := info.Steps[0].HeaderSum
		if old, dup := sums[sum]; dup != same {
			t.Errorf("%s has the sum %#x of %q", name, sum, old)
		}
		sums[sum] = name
	}
	to := nameV1("t", "a")
	add("plain", v1(to, sizeV1(9), dataV1(0, "ab"), zeroV1(5, 1), "e"), false)
	add("container", image("", 1, diffV2(nameV2("t", "a"), v2("p", "\x01"), sizeV2(9),
		v2("w", le64(0)+le64(2)+"xy"), v2("z", le64(5)+le64(1)))), true)
	add("order", v1(to, sizeV1(9), zeroV1(5, 1), dataV1(0, "ab"), "e"), false)
	add("kind", v1(to, sizeV1(9), zeroV1(0, 2), zeroV1(5, 1), "e"), false)
	add("kinds", v1(to, sizeV1(9), zeroV1(0, 2), dataV1(5, "x"), "e"), false)
	add("size", v1(to, sizeV1(10), dataV1(0, "ab"), zeroV1(5, 1), "e"), false)
	add("name", v1(nameV1("t", "b"), sizeV1(9), dataV1(0, "ab"), zeroV1(5, 1), "e"), false)
	add("head", v1(sizeV1(9), dataV1(0, "ab"), zeroV1(5, 1), "e"), false)
	add("from", v1(nameV1("f", "a"), sizeV1(9), dataV1(0, "ab"), zeroV1(5, 1), "e"), false)
	add("length", v1(to, sizeV1(9), dataV1(0, "abc"), zeroV1(5, 1), "e"), false)
	if name := sums[0xc2673beea96d17b5]; name == "" {
		for sum, name := range sums {
			t.Logf("%#x %s", sum, name)
		}
		t.Error("the sums are not those of earlier releases")
	}
}
