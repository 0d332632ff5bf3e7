package rbddiff

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// rewrite reads a file and writes what it reads.
func rewrite(src io.Reader) ([]byte, error) {
	r, err := NewReader(src)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, r.Format())
	if err != nil {
		return nil, err
	}
	for {
		rec, err := r.Next()
		if err == io.EOF {
			err := w.Close()
			return out.Bytes(), err
		}
		if err != nil {
			return nil, err
		}
		if err := w.WriteRecord(rec); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, r); err != nil {
			return nil, err
		}
	}
}

// protectLen1 gives all 'p' records of a container the length 1.
func protectLen1(t *testing.T, content []byte) []byte {
	t.Helper()
	fixed := bytes.Clone(content)
	r, err := NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := r.Next()
		if err != nil {
			return fixed
		}
		if rec.Kind == Protect && r.Format() == Container {
			fixed[rec.Pos+1] = 1
		}
	}
}

// TestRoundTrip: every real export, and every other one in canonical form, is
// written as it was read, but for the length of 'p'.
func TestRoundTrip(t *testing.T) {
	written := 0
	for name, content := range exports(t) {
		info, err := Scan(bytes.NewReader(content), -1)
		if err != nil || name == "cases/p-before-t-v1.diff" { // has the flag 7
			continue
		}
		skipped := false
		for _, w := range info.Warnings {
			skipped = skipped || strings.HasPrefix(w.Reason, "unknown record")
		}
		if skipped {
			continue
		}
		for kind, src := range map[string]io.Reader{"seek": bytes.NewReader(content), "stream": streamOnly{bytes.NewReader(content)}} {
			got, err := rewrite(src)
			want := protectLen1(t, content[:int64(len(content))-info.Trailing])
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, want %d, error %v", name, kind, len(got), len(want), err)
			}
		}
		written++
	}
	if written < 150 {
		t.Errorf("just %d files", written)
	}
}

func TestWriterRefuses(t *testing.T) {
	start := Record{Kind: DiffStart, Count: 1}
	size := Record{Kind: Size, Size: 100}
	tests := []struct {
		name   string
		format Format
		recs   []Record
		want   string
	}{
		{"no start", DiffV1, []Record{size}, "no place"},
		{"two starts", DiffV1, []Record{start, start}, "in a diff"},
		{"header in v1", DiffV1, []Record{start, {Kind: HeaderOrder, Number: 22}}, "in a diff"},
		{"negative size", DiffV1, []Record{start, {Kind: Size, Size: -1}}, "size -1"},
		{"huge size", DiffV1, []Record{start, {Kind: Size, Size: MaxSize + 1}}, "more than a file"},
		{"negative extent", DiffV1, []Record{start, size, {Kind: Zero, Offset: 5, Length: -1}}, "extent 5~-1"},
		{"past the end", DiffV1, []Record{start, size, {Kind: Zero, Offset: 100, Length: 1}}, "past the image's size"},
		{"empty name", DiffV1, []Record{start, {Kind: From}}, "empty name"},
		{"long name", DiffV1, []Record{start, {Kind: To, Name: strings.Repeat("a", MaxName+1)}}, "4097 bytes long"},
		{"long from", DiffV1, []Record{start, {Kind: From, Name: strings.Repeat("a", MaxName+1)}}, "4097 bytes long"},
		{"no size", DiffV1, []Record{start, {Kind: To, Name: "a"}, {Kind: End}}, "doesn't say"},
		{"missing data", DiffV1, []Record{start, size, {Kind: Data, Length: 9}, {Kind: End}}, "9 bytes of data are missing"},
		{"after the end", DiffV1, []Record{start, size, {Kind: End}, start}, "no place"},
		{"early", DiffV1, []Record{start, size}, "ends early"},
		{"no diffs", Container, []Record{{Kind: HeaderEnd}, {Kind: DiffStart}}, "0 diffs"},
		{"too many diffs", Container, []Record{{Kind: HeaderEnd}, {Kind: DiffStart, Count: MaxDiffs + 1}}, "65537 diffs"},
		{"diff in the header", Container, []Record{start}, "in the header"},
		{"order", Container, []Record{{Kind: HeaderOrder, Number: 11}}, "object order 11"},
		{"long meta", Container, []Record{{Kind: Meta, Key: "k", Value: strings.Repeat("v", MaxMeta)}}, "image-meta"},
		{"head in the middle", Container, []Record{{Kind: HeaderEnd}, {Kind: DiffStart, Count: 2}, size, {Kind: End}, {Kind: DiffStart}}, "no end snapshot"},
		{"one of two", Container, []Record{{Kind: HeaderEnd}, {Kind: DiffStart, Count: 2}, {Kind: To, Name: "a"}, size, {Kind: End}}, "1 of 2 diffs"},
	}
	for _, test := range tests {
		w, err := NewWriter(io.Discard, test.format)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range test.recs {
			err = errors.Join(err, w.WriteRecord(rec))
		}
		err = errors.Join(err, w.Close())
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestWriterCounts: the caller need not number the diffs.
func TestWriterCounts(t *testing.T) {
	var out bytes.Buffer
	w, err := NewWriter(&out, Container)
	if err != nil {
		t.Fatal(err)
	}
	start, size, end := Record{Kind: DiffStart, Count: 2}, Record{Kind: Size, Size: 9}, Record{Kind: End}
	for _, rec := range []Record{{Kind: HeaderEnd}, start, {Kind: To, Name: "a"}, size, end, start, {Kind: From, Name: "a"}, size, end} {
		err = errors.Join(err, w.WriteRecord(rec))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	want := image("", 2, diffV2(nameV2("t", "a"), sizeV2(9)), diffV2(nameV2("f", "a"), sizeV2(9)))
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestWriterTooMuchData(t *testing.T) {
	w, err := NewWriter(io.Discard, DiffV1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []Record{{Kind: DiffStart}, {Kind: Size, Size: 100}, {Kind: Data, Length: 3}} {
		if err := w.WriteRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.Write([]byte("ab")); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := w.Write([]byte("cd")); n != 0 || !errors.Is(err, ErrInvalid) {
		t.Error(n, err)
	}
}

type brokenDisk struct{}

func (brokenDisk) Write([]byte) (int, error) { return 0, errDisk }

var errDisk = errors.New("no space left")

func TestWriterDestination(t *testing.T) {
	w, err := NewWriter(brokenDisk{}, DiffV1)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range []Record{{Kind: DiffStart}, {Kind: Size, Size: 100}, {Kind: End}} {
		if err := w.WriteRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	if err := w.WriteRecord(Record{Kind: DiffStart}); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}
