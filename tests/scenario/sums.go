package scenario

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// SumsFile is the name of the file that holds what a repository must show, beside
// the repository's folder.
const SumsFile = "SHA256SUMS"

// WriteSums writes one line for each snapshot: `<sha256>  <image>@<snapshot>  <size>`.
func WriteSums(path string, expects []Expect) error {
	var text strings.Builder
	for _, e := range expects {
		fmt.Fprintf(&text, "%s  %s@%s  %d\n", e.SHA256, e.Image, e.Snapshot, e.Size)
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}

// ReadSums reads what WriteSums wrote. Spec stays empty.
func ReadSums(path string) ([]Expect, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var expects []Expect
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		e, err := parseSum(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		expects = append(expects, e)
	}
	return expects, lines.Err()
}

func parseSum(line string) (Expect, error) {
	fields := strings.Split(line, "  ")
	if len(fields) != 3 {
		return Expect{}, fmt.Errorf("want 3 fields with two spaces between them, got %q", line)
	}
	image, snapshot, found := strings.Cut(fields[1], "@")
	if !found {
		return Expect{}, fmt.Errorf("want image@snapshot, got %q", fields[1])
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return Expect{}, err
	}
	return Expect{Image: image, Snapshot: snapshot, SHA256: fields[0], Size: size}, nil
}
