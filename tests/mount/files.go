package mount

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A fileState is what must not change of a backup file.
type fileState struct {
	sum   string // sha256; the target of a symlink; "" for folders
	mode  fs.FileMode
	inode uint64
	mtime syscall.Timespec
}

// fileStates looks at everything below dir.
func fileStates(t testing.TB, dir string) map[string]fileState {
	t.Helper()
	states := make(map[string]fileState)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sys := info.Sys().(*syscall.Stat_t)
		state := fileState{mode: info.Mode(), inode: sys.Ino, mtime: sys.Mtim}
		switch {
		case info.Mode().IsRegular():
			state.sum, err = SHA256(path)
		case info.Mode()&fs.ModeSymlink != 0:
			state.sum, err = os.Readlink(path)
		}
		states[path] = state
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// assertSame fails the test where a backup file isn't what it was.
func assertSame(t testing.TB, before, after map[string]fileState) {
	t.Helper()
	for path, was := range before {
		if is, found := after[path]; !found || is != was {
			t.Errorf("%s was changed by the mount: %+v, now %+v", path, was, is)
		}
	}
	for path := range after {
		if _, found := before[path]; !found {
			t.Errorf("%s was made by the mount", path)
		}
	}
}

// SHA256 returns the hash of a file's contents, hex.
func SHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// allocated is what a file takes on disk, bytes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
