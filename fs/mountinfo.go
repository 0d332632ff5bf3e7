package fs

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A mountEntry is a line of /proc/self/mountinfo; see proc(5).
type mountEntry struct {
	id     int
	dev    string // "major:minor"
	root   string // which folder of the file system is mounted
	path   string // where
	fsType string
	source string
}

// A MountedRepo is a mount of this program.
type MountedRepo struct {
	Mountpoint string // absolute
	Repo       string // the path of the repository, as given to Mount as FsName
}

// Mounted returns the mounts of this program, by anybody, in mount order.
func Mounted() ([]MountedRepo, error) {
	entries, err := readMountinfo()
	if err != nil {
		return nil, err
	}
	var mounts []MountedRepo
	for _, entry := range entries {
		if entry.fsType == FSType {
			mounts = append(mounts, MountedRepo{Mountpoint: entry.path, Repo: entry.source})
		}
	}
	return mounts, nil
}

// MountedAt returns the mount of this program at path, which is not touched: a
// mount whose process is stuck or gone is found as well.
func MountedAt(path string) (MountedRepo, error) {
	place, err := resolvePlace(path)
	if err != nil {
		return MountedRepo{}, &Error{Op: "find", Path: absolute(path), Err: err}
	}
	entry, found := place.mounted()
	if !found || entry.fsType != FSType {
		return MountedRepo{}, &Error{Op: "find", Path: place.path, Err: ErrNotMounted}
	}
	return MountedRepo{Mountpoint: entry.path, Repo: entry.source}, nil
}

func readMountinfo() ([]mountEntry, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountinfo(data), nil
}

// parseMountinfo skips lines that it doesn't understand.
func parseMountinfo(data []byte) []mountEntry {
	var entries []mountEntry
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !found || len(head) < 6 || len(tail) < 2 {
			continue
		}
		id, err := strconv.Atoi(head[0])
		if err != nil {
			continue
		}
		entries = append(entries, mountEntry{
			id: id, dev: head[2], root: unescapeOctal(head[3]), path: unescapeOctal(head[4]),
			fsType: tail[0], source: unescapeOctal(tail[1]),
		})
	}
	return entries
}

// unescapeOctal undoes the kernel's \040 for bytes that would split fields.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// below reports whether path is dir or lies in it. Both are clean.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// absolute is filepath.Abs, or path itself where there is no working folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
