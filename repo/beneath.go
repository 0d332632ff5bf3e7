package repo

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// openBeneath opens rel, a path as validRel allows, below the folder dirfd. It
// never follows a symbolic link, in no component, so it can't leave the tree.
func openBeneath(dirfd int, rel string, flags int) (int, error) {
	at, owned := dirfd, false
	for {
		name, rest, more := strings.Cut(rel, "/")
		how := flags
		if more {
			how = unix.O_PATH | unix.O_DIRECTORY
		}
		fd, err := openat(at, name, how)
		if owned {
			_ = unix.Close(at)
		}
		if err != nil || !more {
			return fd, err
		}
		at, owned, rel = fd, true, rest
	}
}

// openat opens one component, without following it.
func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// openFolder opens the folder rel ("." for dirfd's own) for use with *at calls.
func openFolder(dirfd int, rel string, flags int) (int, error) {
	if rel == "." {
		return openat(dirfd, ".", flags|unix.O_DIRECTORY)
	}
	return openBeneath(dirfd, rel, flags|unix.O_DIRECTORY)
}

// openRegular opens a regular file for reading, and nothing else. name is one
// component below the folder dirfd. Opening a pipe would wake its writer, and
// opening a device can do anything, so the type is looked at first; O_NONBLOCK
// and the look afterwards are for a file that is replaced in between.
func openRegular(dirfd int, name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, st, ErrNotRegular
	}
	fd, err := openat(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.EAGAIN) {
		fd, err = openLeased(dirfd, name)
	}
	if err != nil {
		return -1, st, err
	}
	if err := statRegular(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// openLeased opens a file on which somebody holds a write lease (Samba and
// the NFS server do that): they get the time they need to give it up, which a
// non-blocking open denies them. The type is known before the open may block.
func openLeased(dirfd int, name string) (int, error) {
	var st unix.Stat_t
	place, err := openat(dirfd, name, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(place) }()
	if err := statRegular(place, &st); err != nil {
		return -1, err
	}
	for {
		fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(place), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func statRegular(fd int, st *unix.Stat_t) error {
	if err := unix.Fstat(fd, st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ErrNotRegular
	}
	return nil
}

// validRel tells whether rel is a relative path of plain components.
func validRel(rel string) bool {
	if rel == "" || strings.IndexByte(rel, 0) >= 0 {
		return false
	}
	for name := range strings.SplitSeq(rel, "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func pinOf(st *unix.Stat_t) Pin {
	return Pin{Inode: st.Ino, Size: st.Size, MTimeNs: unix.TimespecToNsec(st.Mtim)}
}

// join is path.Join for parts that are clean already.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// split is the reverse of join.
func split(rel string) (dir, name string) {
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		return rel[:i], rel[i+1:]
	}
	return ".", rel
}
