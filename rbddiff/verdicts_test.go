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

	"github.com/google/go-cmp/cmp"
)

// A verdict is a line of testdata/verdicts.txt.
type verdict struct {
	file, kind, reason string
	pos                int64
	hasPos             bool
}

func parseVerdict(line string) (v verdict, err error) {
	fields := strings.SplitN(line, " ", 4)
	switch len(fields) {
	case 2:
		v.file, v.kind = fields[0], fields[1]
		return v, nil
	case 4:
		v.file, v.kind, v.reason, v.hasPos = fields[0], fields[1], fields[3], true
		_, err = fmt.Sscan(fields[2], &v.pos)
		return v, err
	}
	return v, fmt.Errorf("want 2 or 4 fields: %q", line)
}

func kindOf(name string) error {
	switch name {
	case "incomplete":
		return ErrIncomplete
	case "corrupt":
		return ErrCorrupt
	case "unsupported":
		return ErrUnsupported
	}
	return nil
}

// check compares what Scan said with the verdict.
func (v verdict) check(info *Info, err error) error {
	if v.kind != "accept" {
		return checkError(err, kindOf(v.kind), v.pos, v.reason)
	}
	if err != nil {
		return fmt.Errorf("error: %w", err)
	}
	if !v.hasPos {
		if len(info.Warnings) > 0 {
			return fmt.Errorf("warnings: %v", info.Warnings)
		}
		return nil
	}
	if len(info.Warnings) != 1 || info.Warnings[0].Pos != v.pos || !strings.Contains(info.Warnings[0].Reason, v.reason) {
		return fmt.Errorf("warnings: %v, want %q at %d", info.Warnings, v.reason, v.pos)
	}
	return nil
}

// checkError wants an *Error of that kind with all that a user needs.
func checkError(err, kind error, pos int64, reason string) error {
	var e *Error
	switch {
	case !errors.As(err, &e):
		return fmt.Errorf("error %w, want an *Error", err)
	case kind == nil || !errors.Is(err, kind):
		return fmt.Errorf("%w: want the kind %q", err, fmt.Sprint(kind))
	case e.Pos != pos || !strings.Contains(e.Reason, reason):
		return fmt.Errorf("%w, want %q at %d", err, reason, pos)
	case e.Hint == "" || strings.ContainsAny(e.Reason+e.Hint, "\n"):
		return fmt.Errorf("%w: the hint %q or the reason isn't one line", err, e.Hint)
	}
	return nil
}

// TestVerdicts holds every fixture to its line in testdata/verdicts.txt, and
// every way to read it to the same result.
func TestVerdicts(t *testing.T) {
	table, err := os.ReadFile("testdata/verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	files := exports(t)
	seen := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		v, err := parseVerdict(line)
		if err != nil {
			t.Fatal(err)
		}
		content, ok := files[v.file]
		if !ok || seen[v.file] {
			t.Errorf("%s: not in the archive, or twice in the table", v.file)
		}
		seen[v.file] = true
		t.Run(v.file, func(t *testing.T) { checkVerdict(t, v, content) })
	}
	for name := range files {
		if !seen[name] {
			t.Errorf("%s: no verdict", name)
		}
	}
}

func checkVerdict(t *testing.T, v verdict, content []byte) {
	info, err := Scan(bytes.NewReader(content), -1)
	if wrong := v.check(info, err); wrong != nil {
		t.Errorf("seeking: %v", wrong)
	}
	sources := map[string]io.Reader{
		"stream":  streamOnly{bytes.NewReader(content)},
		"dataerr": iotest.DataErrReader(bytes.NewReader(content)),
		"size":    bytes.NewReader(append(bytes.Clone(content), "more bytes"...)),
	}
	if len(content) < 32<<10 {
		sources["one byte"] = iotest.OneByteReader(bytes.NewReader(content))
	}
	for name, src := range sources {
		size := int64(-1)
		if name == "size" {
			size = int64(len(content))
		}
		again, againErr := Scan(src, size)
		if diff := cmp.Diff(info, again); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if fmt.Sprint(err) != fmt.Sprint(againErr) {
			t.Errorf("%s: error %v, seeking %v", name, againErr, err)
		}
	}
}
