package repo

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// A root is the repository's own folder, held by a descriptor, so that it can
// be told whether the path still leads to it.
type root struct {
	file *os.File
	dev  uint64
	ino  uint64
	kind filesystem
}

// errUnmounted is for a root that was full of files and is now an empty folder
// on another file system: the mountpoint, most likely.
var errUnmounted = errors.New("an empty folder where files were: its file system is not mounted")

func openRoot(path string) (*root, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &root{file: os.NewFile(uintptr(fd), path), dev: st.Dev, ino: st.Ino, kind: filesystemOf(fd)}, nil
}

// refreshRoot looks where the root's path leads now. When that is another
// folder than before it is used from now on, and swapped is true. An error
// means that there is no repository at the moment; everything that was open
// is let go of then, so that a lazy unmount can finish.
func (r *Repo) refreshRoot() (swapped bool, err error) {
	r.swapping.Lock()
	defer r.swapping.Unlock()
	if r.closed {
		return false, unix.EBADF
	}
	found, err := openRoot(r.path)
	if err != nil {
		r.leaveRoot(nil)
		return false, err
	}
	before := r.root.Load()
	if before != nil && before.is(found) {
		return false, found.file.Close()
	}
	if r.populated.Load() && (before == nil || before.dev != found.dev) && found.empty() {
		_ = found.file.Close()
		r.leaveRoot(nil)
		return false, errUnmounted
	}
	r.leaveRoot(found)
	return true, nil
}

// leaveRoot puts next, which may be nil, into the place of the root.
func (r *Repo) leaveRoot(next *root) {
	if old := r.root.Swap(next); old != nil {
		r.cache.flush()
		_ = old.file.Close()
	}
}

// is tells whether both are the same folder, and the first is still usable.
func (a *root) is(b *root) bool {
	if a.dev != b.dev || a.ino != b.ino {
		return false
	}
	now, err := a.file.Stat()
	return err == nil && now.IsDir()
}

// empty tells whether the folder holds nothing that could be a backup.
func (a *root) empty() bool {
	names, err := a.file.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		if hiddenFolder(name) == reasonNone && hiddenFile(name) == reasonNone {
			return false
		}
	}
	return true
}

// withRoot calls f with the root's descriptor, which stays open meanwhile.
// With no root, because it vanished or because of Close, the error is ENOENT.
func (r *Repo) withRoot(f func(now *root, dirfd int) error) error {
	now := r.root.Load()
	if now == nil {
		return unix.ENOENT
	}
	conn, err := now.file.SyscallConn()
	if err != nil {
		return unix.ENOENT
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(now, int(fd)) }); err != nil {
		return unix.ENOENT
	}
	return inner
}

// withFolder calls f with a descriptor of the folder at path, for *at calls.
func (r *Repo) withFolder(path string, f func(dirfd int) error) error {
	return r.withRoot(func(_ *root, rootfd int) error {
		dirfd, err := openFolder(rootfd, path, unix.O_PATH)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(dirfd) }()
		return f(dirfd)
	})
}
