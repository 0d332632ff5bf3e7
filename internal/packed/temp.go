package packed

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// tempPrefix is how the folders of caches begin that last as long as a process.
const tempPrefix = "rbdbackupfs-cache-"

// NewTempCache returns a Cache with a folder of its own in parent, which Close
// removes. A process that is killed leaves one; it is removed here by the next.
func NewTempCache(parent string, limit int64) (*Cache, error) {
	sweep(parent)
	folder, lock, err := tempFolder(parent)
	if err != nil {
		return nil, err
	}
	s, err := newStore(folder, limit, lock)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	c := newCache(s)
	c.temp = folder
	return c, nil
}

// tempFolder makes a folder and locks it.
func tempFolder(parent string) (folder string, lock *os.File, err error) {
	for range 10 {
		if folder, err = os.MkdirTemp(parent, tempPrefix); err != nil {
			return "", nil, err
		}
		if lock, err = lockFolder(folder); err == nil {
			if isLockOf(lock, folder) {
				return folder, lock, nil
			}
			_ = lock.Close()
		}
		// Another process took it for one that was left, in the moment before it was
		// locked. What is still there of it somebody removes as such.
		err = errors.Join(errSwept, err)
	}
	return "", nil, err
}

var errSwept = errors.New("the folder was removed by another process")

func isLockOf(lock *os.File, folder string) bool {
	mine, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(filepath.Join(folder, lockName))
	return err == nil && os.SameFile(mine, there)
}

// sweep removes the folders that processes of this user left.
func sweep(parent string) {
	folders, err := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	if err != nil {
		return // of a parent that is a pattern: nothing is lost
	}
	for _, folder := range folders {
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue // in /var/tmp anybody may have made it
		}
		if lock, err := lockFolder(folder); err == nil {
			_ = os.RemoveAll(folder)
			_ = lock.Close()
		}
	}
}
