package daemon

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A MountEntry is one mounted file system.
type MountEntry struct {
	Mountpoint string
	Type       string // such as "fuse.rbdbackupfs"
	Source     string
}

// Mounts lists the mounted file systems of one type, in the order of mounting.
func Mounts(fsType string) ([]MountEntry, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseMounts(file, fsType)
}

// FindMount returns the mounted file system of one type that path is in: its
// mountpoint, or a place below it. It never looks at path itself, which hangs
// or fails where the file system's process does.
func FindMount(path, fsType string) (MountEntry, bool, error) {
	mounts, err := Mounts(fsType)
	if err != nil {
		return MountEntry{}, false, err
	}
	var found MountEntry
	for _, m := range mounts {
		if within(path, m.Mountpoint) && len(m.Mountpoint) >= len(found.Mountpoint) {
			found = m
		}
	}
	return found, found.Mountpoint != "", nil
}

// ResolvePath makes path absolute and resolves symbolic links, of its last
// component only where that can be looked at: a mountpoint whose process is
// gone can't.
func ResolvePath(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(full); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if errors.Is(err, os.ErrNotExist) {
		return full, nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(full)), nil
}

// within reports whether path is dir or lies below it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// parseMounts reads the format of proc_pid_mountinfo(5).
func parseMounts(r io.Reader, fsType string) ([]MountEntry, error) {
	var mounts []MountEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(tail) < 2 || tail[0] != fsType {
			continue
		}
		mounts = append(mounts, MountEntry{Mountpoint: unescape(fields[4]), Type: tail[0], Source: unescape(tail[1])})
	}
	return mounts, lines.Err()
}

// unescape undoes the kernel's \ooo for blanks and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
