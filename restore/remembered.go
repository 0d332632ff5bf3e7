package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The snapshot that a raw file is at stands in an extended attribute, with the time
// and the size that the file had then: whoever writes to it changes the time.
//
//	user.rbdbackupfs.restored = "1 <mtime, ns> <size, bytes> <name>"
//
// A name that is long stands there as its SHA-256, after "#". A file system without
// extended attributes remembers nothing: full restores work, diffs are refused.
const (
	memoryAttr    = "user.rbdbackupfs.restored"
	memoryVersion = 1
	longName      = 1024
	maxMemory     = longName + 128
)

// A memory is what a file says of itself.
type memory struct {
	valid bool
	mtime int64
	size  int64
	name  string // as it stands in the attribute
}

func shortName(name string) string {
	if len(name) <= longName && !strings.HasPrefix(name, "#") {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:])
}

// is tells whether the file was at that snapshot.
func (m memory) is(name string) bool { return m.valid && m.name == shortName(name) }

// fits tells whether the file wasn't written to since.
func (m memory) fits(info os.FileInfo) bool {
	return m.valid && m.size == info.Size() && m.mtime == info.ModTime().UnixNano()
}

// remembered reads what a file remembers.
func remembered(f *os.File) (memory, error) {
	buf := make([]byte, maxMemory)
	n, err := unix.Fgetxattr(int(f.Fd()), memoryAttr, buf)
	if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ERANGE) {
		return memory{}, nil
	}
	if err != nil {
		return memory{}, err
	}
	var m memory
	parts := strings.SplitN(string(buf[:n]), " ", 4)
	if len(parts) != 4 || parts[0] != fmt.Sprint(memoryVersion) {
		return memory{}, nil
	}
	n, _ = fmt.Sscan(parts[1]+" "+parts[2], &m.mtime, &m.size)
	m.valid, m.name = n == 2, parts[3]
	return m, nil
}

// remember has the file remember a snapshot, or none where the name is empty. It
// sets the file's time to what it remembers.
func remember(f *os.File, name string) error {
	if name == "" {
		err := unix.Fremovexattr(int(f.Fd()), memoryAttr)
		if errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP) {
			err = nil
		}
		return err
	}
	// What the file system makes of a time is what counts later.
	now := time.Now()
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{unix.NsecToTimeval(now.UnixNano()), unix.NsecToTimeval(now.UnixNano())}); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d %d %d %s", memoryVersion, info.ModTime().UnixNano(), info.Size(), shortName(name))
	err = unix.Fsetxattr(int(f.Fd()), memoryAttr, []byte(text), 0)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil
	}
	return err
}
