package malformed

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed cases.txt
var casesText string

// A Case is one folder of backup files.
type Case struct {
	Name string
	// Rbd is what the real rbd does with the files, for the reader.
	Rbd   string
	Files []File
	// Problems are what has to be reported; none for files that are fine.
	Problems []Problem
	// Unused are the files that no snapshot is read from, or only one of its own.
	Unused []string
	// Partial says that snapshots which the good part of a broken file holds may
	// be served.
	Partial bool
}

// A File is one backup file.
type File struct {
	Name string
	Data []byte
}

// A Problem is what has to be said of a file.
type Problem struct {
	Kinds  []string // any of these
	File   string
	Offset int64 // -1: anything
	// Serving says that it is a remark, and no reason for exit status 3.
	Serving bool
}

// Write makes the files of the case in dir/NAME.
func (c Case) Write(dir string) error {
	dir = filepath.Join(dir, c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range c.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Cases reads cases.txt.
func Cases() ([]Case, error) {
	var cases []Case
	for n, line := range strings.Split(casesText, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "case "); ok {
			cases = append(cases, Case{Name: name})
			continue
		}
		if len(cases) == 0 {
			return nil, fmt.Errorf("cases.txt:%d: before the first case", n+1)
		}
		if err := cases[len(cases)-1].add(line); err != nil {
			return nil, fmt.Errorf("cases.txt:%d: %w", n+1, err)
		}
	}
	return cases, nil
}

func (c *Case) add(line string) error {
	if line == "partial" {
		c.Partial = true
		return nil
	}
	key, text, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("want KEY: TEXT, got %q", line)
	}
	if name, ok := strings.CutPrefix(key, "file "); ok {
		data, err := Compile(text)
		c.Files = append(c.Files, File{name, data})
		return err
	}
	switch key {
	case "rbd":
		c.Rbd = text
		return nil
	case "unused":
		c.Unused = append(c.Unused, text)
		return nil
	case "problem", "warning", "aside":
		p, err := parseProblem(text)
		p.Serving = key != "problem"
		if key != "warning" {
			c.Unused = append(c.Unused, p.File)
		}
		c.Problems = append(c.Problems, p)
		return err
	}
	return fmt.Errorf("unknown key %q", key)
}

// parseProblem reads `KIND[|KIND] FILE [OFFSET]`.
func parseProblem(text string) (Problem, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 || len(fields) > 3 {
		return Problem{}, fmt.Errorf("want KIND FILE [OFFSET], got %q", text)
	}
	p := Problem{Kinds: strings.Split(fields[0], "|"), File: fields[1], Offset: -1}
	if len(fields) == 3 {
		offset, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return p, err
		}
		p.Offset = offset
	}
	return p, nil
}
