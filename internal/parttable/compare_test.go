package parttable

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rbdbackupfs/internal/testenv"
)

// run runs a program and gives what it prints.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	out, err := try(t, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	program, err := testenv.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...) // also after the test
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String(), nil
}

func newImage(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func readFile(t *testing.T, name string) Table {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := check(f, info.Size()); err != nil {
		t.Fatal(err)
	}
	table, err := Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// change overwrites bytes of a file.
func change(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, what string, got, want Table) {
	t.Helper()
	if len(got.Partitions) == 0 && len(want.Partitions) == 0 {
		return // an MBR without partitions isn't told from a boot sector
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-it says, +we do):\n%s", what, diff)
	}
}

// asLinux gives a table of a tool the bounds that Linux has: numbers to 255, and two
// sectors of an extended partition.
func asLinux(table Table) Table {
	table.Partitions = slices.DeleteFunc(table.Partitions, func(p Partition) bool { return p.Number > maxNumber })
	for i, p := range table.Partitions {
		if p.Type == "0x05" || p.Type == "0x0f" || p.Type == "0x85" {
			table.Partitions[i].Size = 2 * sectorSize
		}
	}
	slices.SortFunc(table.Partitions, func(a, b Partition) int { return a.Number - b.Number })
	return table
}

func mbrType(t *testing.T, hex string) string {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "0x"), 16, 8)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("0x%02x", n)
}

func fromSfdisk(t *testing.T, image string) Table {
	t.Helper()
	var out struct {
		PartitionTable struct {
			Label      string
			Device     string
			SectorSize int64
			Partitions []struct {
				Node, Type, Name string
				Start, Size      int64
			}
		}
	}
	if err := json.Unmarshal([]byte(run(t, "", "sfdisk", "-J", image)), &out); err != nil {
		t.Fatal(err)
	}
	from := out.PartitionTable
	table := Table{Scheme: map[string]string{"dos": MBR, "gpt": GPT}[from.Label]}
	for _, p := range from.Partitions {
		number, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(p.Node, from.Device), "p"))
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.ToLower(p.Type)
		if table.Scheme == MBR {
			kind = mbrType(t, p.Type)
		}
		table.Partitions = append(table.Partitions, Partition{number, p.Start * from.SectorSize, p.Size * from.SectorSize, kind, p.Name})
	}
	return asLinux(table)
}

func fromPartx(t *testing.T, image string) Table {
	t.Helper()
	var table Table
	out := run(t, "", "partx", "--show", "--noheadings", "--output", "NR,START,SECTORS,TYPE,SCHEME,NAME", image)
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		n, err := strconv.Atoi(words[0])
		start, err1 := strconv.ParseInt(words[1], 10, 64)
		count, err2 := strconv.ParseInt(words[2], 10, 64)
		if err != nil || err1 != nil || err2 != nil {
			t.Fatal(line)
		}
		table.Scheme = map[string]string{"dos": MBR, "gpt": GPT}[words[4]]
		kind := words[3]
		if table.Scheme == MBR {
			kind = mbrType(t, kind)
		}
		table.Partitions = append(table.Partitions, Partition{n, start * sectorSize, count * sectorSize, kind, strings.Join(words[5:], " ")})
	}
	return asLinux(table)
}

func withoutTypes(table Table) Table {
	table.Partitions = slices.Clone(table.Partitions)
	for i := range table.Partitions {
		table.Partitions[i].Type = ""
	}
	return table
}

// fromParted has no types, and those of an extended partition from us.
func fromParted(t *testing.T, image string) Table {
	t.Helper()
	var table Table
	types := map[int]string{}
	for _, p := range readFile(t, image).Partitions {
		types[p.Number] = p.Type
	}
	for line := range strings.Lines(run(t, "", "parted", "-s", "-m", image, "unit", "B", "print")) {
		words := strings.Split(strings.TrimRight(line, ";\n"), ":")
		n, err := strconv.Atoi(words[0])
		if err != nil {
			if len(words) > 5 {
				table.Scheme = map[string]string{"msdos": MBR, "gpt": GPT}[words[5]]
			}
			continue
		}
		off, err1 := strconv.ParseInt(strings.TrimSuffix(words[1], "B"), 10, 64)
		size, err2 := strconv.ParseInt(strings.TrimSuffix(words[3], "B"), 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatal(line)
		}
		table.Partitions = append(table.Partitions, Partition{n, off, size, types[n], words[5]})
	}
	return withoutTypes(asLinux(table))
}
