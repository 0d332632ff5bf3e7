package rbddiff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// addSeeds gives a fuzz target every small fixture.
func addSeeds(f *testing.F) {
	for _, content := range exports(f) {
		if len(content) <= 512 {
			f.Add(content)
		}
	}
	for _, content := range []string{
		v1(nameV1("t", "a"), sizeV1(100), dataV1(0, "abc"), zeroV1(50, 50), "e"),
		image(v2("O", le64(22))+v2("T", le64(61))+v2("M", le32(1)+"k"+le32(1)+"v"), 2,
			diffV2(nameV2("t", "a"), v2("p", "\x01"), sizeV2(100), v2("w", le64(0)+le64(3)+"abc")),
			diffV2(nameV2("f", "a"), sizeV2(100), v2("z", le64(0)+le64(3)), v2("x", "what"))),
	} {
		f.Add([]byte(content))
	}
}

// fuzzMax is what a file can make a Reader or Scan allocate: two buffers, and
// no more for each of its bytes than the names and the image-meta cost.
func fuzzMax(content []byte) uint64 { return 2*largeBuffer + 64<<10 + 64*uint64(len(content)) }

// FuzzScan: Scan ends, never panics, allocates in proportion to what is there,
// says the same of a seeker and a stream, and its verdict has all its parts.
func FuzzScan(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		var info *Info
		var err error
		if got, limit := allocated(func() { info, err = Scan(bytes.NewReader(content), -1) }), fuzzMax(content); got > limit {
			t.Errorf("%d bytes allocated for %d", got, len(content))
		}
		for _, src := range []io.Reader{streamOnly{bytes.NewReader(content)}, iotest.OneByteReader(bytes.NewReader(content))} {
			streamed, streamErr := Scan(src, -1)
			if diff := cmp.Diff(info, streamed); diff != "" || fmt.Sprint(err) != fmt.Sprint(streamErr) {
				t.Errorf("seek %v, stream %v\n%s", err, streamErr, diff)
			}
		}
		if err != nil {
			checkVerdictParts(t, err, int64(len(content)))
			return
		}
		checkWhole(t, content, info)
	})
}

func checkVerdictParts(t *testing.T, err error, size int64) {
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Pos < 0 || e.Pos > size || e.Reason == "" || e.Hint == "" {
		t.Errorf("%+v", e)
	}
	if !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v is of no kind", err)
	}
	if errors.Is(err, ErrIncomplete) && e.Pos != size {
		t.Errorf("%v: the file ends at %d", err, size)
	}
}

// checkWhole: a whole file's steps lie in it, and it isn't whole when cut.
func checkWhole(t *testing.T, content []byte, info *Info) {
	if len(info.Steps) == 0 {
		t.Fatal("no steps")
	}
	end := int64(0)
	for _, s := range info.Steps {
		if s.Pos < end || s.End <= s.Pos || s.DataBytes > s.End-s.Pos || s.MaxEnd > MaxSize || s.Size < 0 || s.Size > MaxSize {
			t.Errorf("step %+v after %d", s, end)
		}
		end = s.End
	}
	if end+info.Trailing != int64(len(content)) {
		t.Errorf("ends at %d, %d trailing, of %d", end, info.Trailing, len(content))
	}
	if _, err := Scan(bytes.NewReader(content[:end-1]), -1); !errors.Is(err, ErrIncomplete) {
		t.Errorf("cut by one byte: %v", err)
	}
}

// FuzzReader: reading all, some or none of the data gives the same records and
// the same end; what is whole can be written and read again with the same result.
func FuzzReader(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		all := func(n int64) int64 { return n }
		some := func(n int64) int64 { return n / 2 }
		none := func(int64) int64 { return 0 }
		events, raw, err := readEvents(bytes.NewReader(content), all)
		for name, read := range map[string]func(int64) int64{"some": some, "none": none, "all": all} {
			for kind, src := range map[string]io.Reader{"seek": bytes.NewReader(content), "stream": streamOnly{bytes.NewReader(content)}} {
				_, again, againErr := readEvents(src, read)
				if diff := cmp.Diff(raw, again); diff != "" || fmt.Sprint(err) != fmt.Sprint(againErr) {
					t.Errorf("%s, %s: %v, want %v\n%s", name, kind, againErr, err, diff)
				}
			}
		}
		if err != nil {
			return
		}
		written, err := rewrite(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := readEvents(bytes.NewReader(written), all)
		if diff := cmp.Diff(events, again); err != nil || diff != "" {
			t.Errorf("written and read again: %v\n%s", err, diff)
		}
	})
}
