package fs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// Nothing in the tree can be changed, by root either.
func TestReadOnly(t *testing.T) {
	testenv.Need(t, "root") // others are stopped by the modes before us
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	image, folder := m.Images("rbd/vm1/v1.img"), m.Images("rbd/vm1")
	other := m.Images("rbd/vm1/other")
	openAs := func(path string, flags int) func() error {
		return func() error {
			f, err := os.OpenFile(path, flags, 0o600)
			if err == nil {
				err = errors.Join(errors.New("it was opened"), f.Close())
			}
			return err
		}
	}
	changes := map[string]func() error{
		"unlink":             func() error { return os.Remove(image) },
		"unlink latest":      func() error { return os.Remove(m.Images("rbd/vm1/latest.img")) },
		"unlink status":      func() error { return os.Remove(filepath.Join(m.Path, "status.json")) },
		"rmdir":              func() error { return syscall.Rmdir(m.Images("rbd/vm1/sub")) },
		"rmdir images":       func() error { return syscall.Rmdir(m.Images()) },
		"rename":             func() error { return os.Rename(image, other) },
		"rename onto":        func() error { return os.Rename(image, m.Images("rbd/vm1/v2.img")) },
		"create":             openAs(other, os.O_CREATE|os.O_WRONLY),
		"open for writing":   openAs(image, os.O_WRONLY),
		"open for both":      openAs(image, os.O_RDWR),
		"open truncating":    openAs(image, os.O_RDONLY|os.O_TRUNC),
		"open O_TMPFILE":     openAs(folder, unix.O_TMPFILE|os.O_RDWR),
		"open status":        openAs(filepath.Join(m.Path, "status.json"), os.O_WRONLY),
		"mkdir":              func() error { return os.Mkdir(other, 0o700) },
		"mknod":              func() error { return syscall.Mknod(other, syscall.S_IFIFO|0o600, 0) },
		"link":               func() error { return os.Link(image, other) },
		"symlink":            func() error { return os.Symlink("x", other) },
		"truncate":           func() error { return os.Truncate(image, 0) },
		"chmod":              func() error { return os.Chmod(image, 0o600) },
		"chown":              func() error { return os.Chown(image, 1, 1) },
		"utimes":             func() error { return os.Chtimes(image, time.Now(), time.Now()) },
		"create in the root": openAs(filepath.Join(m.Path, "x"), os.O_CREATE|os.O_WRONLY),
		"create in images":   openAs(m.Images("x"), os.O_CREATE|os.O_WRONLY),
		"chmod of the root":  func() error { return os.Chmod(m.Path, 0o777) },
	}
	for name, change := range changes {
		if err := change(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	for _, path := range []string{image, folder, m.Path, filepath.Join(m.Path, "status.json")} {
		if err := unix.Setxattr(path, "user.x", []byte("y"), 0); !errors.Is(err, unix.ENOTSUP) {
			t.Errorf("setxattr %s: %v, want ENOTSUP", path, err)
		}
		if err := unix.Removexattr(path, "user.x"); !errors.Is(err, unix.ENOTSUP) {
			t.Errorf("removexattr %s: %v, want ENOTSUP", path, err)
		}
	}
	if got, err := os.ReadFile(image); err != nil || string(got) != "first" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}
