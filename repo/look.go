package repo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An instant is a time on the repository's clock, since Open.
type instant = time.Duration

func (r *Repo) now() instant { return r.clock.Now().Sub(r.start) }

// deepest is how many folders may lie inside each other.
const deepest = 128

// A folderLook is what one look at a folder found.
type folderLook struct {
	path  string  // below the root, "." for the root
	began instant // before the first entry was read
	id    folderID
	kind  filesystem
	files []fileLook // in the order of the folder
	subs  []subLook
	err   error // the folder could not be read, wholly or in part
}

// A folderID tells a folder from another one that took its name.
type folderID struct{ dev, ino uint64 }

type subLook struct {
	name string
	id   folderID
}

// A fileLook is one path that is not a folder to descend into. Without a
// reason it is a regular file, and pin is set.
type fileLook struct {
	name   string
	pin    Pin
	reason reason
	at     instant
}

// A nameLook is what one look at a single name found: nothing, a folder to
// descend into, or a file.
type nameLook struct {
	file   fileLook
	sub    folderID
	folder bool
	err    error // unix.ENOENT when there is nothing
}

// readFolder reads one folder. The folder's own id and whether its filesystem
// is a network one come with the look even when reading it fails later.
//
// buf is scratch space for directory entries.
func (r *Repo) readFolder(path string, buf []byte) folderLook {
	look := folderLook{path: path, began: r.now()}
	look.err = r.withRoot(func(now *root, rootfd int) error {
		look.kind = now.kind
		how := unix.O_RDONLY
		if r.only != nil {
			how = unix.O_PATH
		}
		dirfd, err := openFolder(rootfd, path, how)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(dirfd) }()
		var st unix.Stat_t
		if err := unix.Fstat(dirfd, &st); err != nil {
			return err
		}
		look.id = folderID{dev: st.Dev, ino: st.Ino}
		if st.Dev != now.dev {
			look.kind = filesystemOf(dirfd)
		}
		if r.only != nil {
			return r.readNamed(dirfd, &look)
		}
		return r.readEntries(dirfd, &look, buf)
	})
	return look
}

func (r *Repo) readEntries(dirfd int, look *folderLook, buf []byte) error {
	depth := 0
	if look.path != "." {
		depth = strings.Count(look.path, "/") + 1
	}
	for {
		n, err := unix.ReadDirent(dirfd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for rest := buf[:n]; len(rest) > 0; {
			var name string
			name, rest = nextName(rest)
			if name == "" || name == "." || name == ".." {
				continue
			}
			if err := look.add(dirfd, name, r.now(), depth, false); err != nil {
				return err
			}
		}
	}
}

// nextName takes the first record off what getdents64(2) wrote. The layout is
// that of struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
func nextName(records []byte) (name string, rest []byte) {
	const header = 19
	if len(records) < header {
		return "", nil
	}
	length := int(binary.NativeEndian.Uint16(records[16:]))
	if length < header || length > len(records) {
		return "", nil
	}
	raw := records[header:length]
	if end := bytes.IndexByte(raw, 0); end >= 0 {
		raw = raw[:end]
	}
	return string(raw), records[length:]
}

// add looks at one name of the folder. named: see lookAt.
func (f *folderLook) add(dirfd int, name string, at instant, depth int, named bool) error {
	seen := lookAt(dirfd, name, false, named)
	switch {
	case errors.Is(seen.err, unix.ENOENT): // deleted meanwhile
	case errors.Is(seen.err, unix.ESTALE), errors.Is(seen.err, unix.ENOTCONN):
		return seen.err // about the folder, not about this name
	case seen.folder && depth >= deepest:
		f.files = append(f.files, fileLook{name: name, reason: reasonTooDeep, at: at})
	case seen.folder:
		f.subs = append(f.subs, subLook{name: name, id: seen.sub})
	default:
		seen.file.at = at
		f.files = append(f.files, seen.file)
	}
	return nil
}

// lookAt looks at one name in a folder, without opening it. sync: see statSynced.
// named: somebody named it, so its name hides nothing.
func lookAt(dirfd int, name string, sync, named bool) nameLook {
	var st unix.Stat_t
	var err error
	if sync {
		err = statSynced(dirfd, name, &st)
	} else {
		err = unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	}
	look := nameLook{file: fileLook{name: name}}
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTCONN):
		look.err = err
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		look.file.reason = reasonDenied
	case err != nil:
		look.file.reason = reasonIO
	default:
		look.classify(&st, named)
	}
	return look
}

func (l *nameLook) classify(st *unix.Stat_t, named bool) {
	name := l.file.name
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		l.file.pin = pinOf(st)
		if !named {
			l.file.reason = hiddenFile(name)
		}
	case unix.S_IFDIR:
		if why := hiddenFolder(name); why != reasonNone && !named {
			l.file.reason = why
			return
		}
		l.folder = true
		l.sub = folderID{dev: st.Dev, ino: st.Ino}
	case unix.S_IFLNK:
		l.file.reason = reasonSymlink
	case unix.S_IFSOCK:
		l.file.reason = reasonSocket
	case unix.S_IFIFO:
		l.file.reason = reasonPipe
	default:
		l.file.reason = reasonDevice
	}
}

// statSynced is fstatat with attributes fresh from the server: those that the
// client of a network file system keeps for seconds would make any two looks agree.
func statSynced(dirfd int, name string, st *unix.Stat_t) error {
	var x unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_FORCE_SYNC
	err := unix.Statx(dirfd, name, flags, unix.STATX_BASIC_STATS, &x)
	if err != nil {
		return err
	}
	st.Mode = uint32(x.Mode)
	st.Ino = x.Ino
	st.Dev = unix.Mkdev(x.Dev_major, x.Dev_minor)
	st.Size = int64(x.Size)
	st.Mtim = unix.NsecToTimespec(x.Mtime.Sec*1e9 + int64(x.Mtime.Nsec))
	return nil
}
