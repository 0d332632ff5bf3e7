package rbddiff

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// cuts are the lengths to cut a file to: all of them when it is small, else
// those around the records and a few in each record's data.
func cuts(t *testing.T, content []byte) []int64 {
	t.Helper()
	var at []int64
	if len(content) <= 16<<10 {
		for n := range len(content) {
			at = append(at, int64(n))
		}
		return at
	}
	r, err := NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for end := int64(0); ; {
		rec, err := r.Next()
		if err != nil {
			return at
		}
		// From the end of the record before to the header of this one.
		for ; end < r.Offset(); end++ {
			at = append(at, end)
		}
		if rec.Kind == Data {
			dataEnd := rec.DataPos + rec.Length
			for _, n := range []int64{1, rec.Length / 3, rec.Length - 1} {
				at = append(at, rec.DataPos+n)
			}
			end = dataEnd
		}
	}
}

// TestTruncated: no beginning of a whole file is anything but incomplete, and
// the error tells where the file ends.
func TestTruncated(t *testing.T) {
	for _, name := range realExports(t) {
		content := exports(t)[name]
		if _, err := Scan(bytes.NewReader(content), -1); err != nil {
			continue // by its verdict
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range cuts(t, content) {
				cut := content[:n]
				info, err := Scan(bytes.NewReader(cut), -1)
				var e *Error
				if !errors.As(err, &e) || !errors.Is(err, ErrIncomplete) || e.Pos != n {
					t.Fatalf("cut to %d of %d bytes: %v, %+v", n, len(content), err, info)
				}
				if _, sized := Scan(bytes.NewReader(content), n); fmt.Sprint(sized) != fmt.Sprint(err) {
					t.Fatalf("size %d of %d bytes: %v, cut: %v", n, len(content), sized, err)
				}
				if len(cut) > 16<<10 {
					continue
				}
				if _, streamed := Scan(streamOnly{bytes.NewReader(cut)}, -1); fmt.Sprint(streamed) != fmt.Sprint(err) {
					t.Fatalf("streamed, cut to %d of %d bytes: %v, want %v", n, len(content), streamed, err)
				}
			}
		})
	}
}

// TestTruncatedFile does it with a real file, where a seek goes past the end.
func TestTruncatedFile(t *testing.T) {
	content := exports(t)["real/a.v2"]
	path := filepath.Join(t.TempDir(), "a.v2")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all := cuts(t, content)
	for i := range all {
		n := all[len(all)-1-i]
		if err := file.Truncate(n); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		_, err := Scan(file, -1)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrIncomplete) || e.Pos != n {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestBroken: what is known of a file that ends early is told.
func TestBroken(t *testing.T) {
	content := exports(t)["real/a.v2"]
	whole, err := Scan(bytes.NewReader(content), -1)
	if err != nil || len(whole.Steps) < 2 {
		t.Fatal(whole, err)
	}
	last := whole.Steps[len(whole.Steps)-1]
	info, err := Scan(bytes.NewReader(content[:last.End-1]), -1)
	if !errors.Is(err, ErrIncomplete) || len(info.Steps) != len(whole.Steps)-1 {
		t.Fatal(info, err)
	}
	if b := info.Broken; b == nil || b.From != last.From || b.Size != last.Size || b.Pos != last.Pos {
		t.Errorf("broken %+v, want %+v", b, last)
	}
}
