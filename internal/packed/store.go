package packed

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A store keeps chunks in a folder, on a shelf for each compressed file. What is on
// it is never larger than its limit, and leaves some of the file system free. When
// there is no more room the shelf that was used least recently goes. It is a cache:
// whatever can't be written or read isn't there.
type store struct {
	folder string
	limit  int64 // bytes, of all shelves together
	lock   *os.File
	pack   *zstd.Encoder
	unpack *zstd.Decoder

	mu      sync.Mutex
	shelves map[string]*shelf
	total   int64
}

// freeShare of the file system is left to others, 1/n.
const freeShare = 20

// openStore takes a folder for this process alone.
func openStore(folder string, limit int64) (*store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(folder)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("the cache %s is in use by another process; name another folder", folder)
	}
	if err != nil {
		return nil, err
	}
	return newStore(folder, limit, lock)
}

// newStore is a store in a folder that is locked, also when it fails.
func newStore(folder string, limit int64, lock *os.File) (s *store, err error) {
	s = &store{folder: folder, limit: limit, lock: lock, shelves: map[string]*shelf{}}
	if s.pack, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(ChunkSize)); err == nil {
		s.unpack, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(ChunkSize))
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

const lockName = "lock"

// lockFolder says unix.EWOULDBLOCK where another process has the folder.
func lockFolder(folder string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(folder, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// load finds what an earlier process left. What is on a shelf is looked at when
// it is used.
func (s *store) load() error {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		ext := filepath.Ext(entry.Name())
		if ext != chunksExt && ext != listExt {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		id := strings.TrimSuffix(entry.Name(), ext)
		sh := s.shelves[id]
		if sh == nil {
			sh = &shelf{path: filepath.Join(s.folder, id)}
			s.shelves[id] = sh
		}
		sh.size += info.Size()
		s.total += info.Size()
		if info.ModTime().After(sh.used) {
			sh.used = info.ModTime()
		}
	}
	s.makeRoom(0, nil)
	return nil
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.pack != nil {
		err = s.pack.Close()
	}
	if s.unpack != nil {
		s.unpack.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// find returns a shelf whose list is read; nil where there is none.
func (s *store) find(id string) *shelf {
	sh := s.shelves[id]
	if sh == nil || sh.where != nil {
		return sh
	}
	before := sh.size
	if sh.read() != nil {
		s.drop(id, sh)
		return nil
	}
	s.total += sh.size - before
	return sh
}

// get fills p with a chunk; false when it isn't there, can't be read, or has another
// length. Whether it is the right one is for the caller to find out.
func (s *store) get(key chunkKey, p []byte) bool {
	s.mu.Lock()
	sh := s.find(key.id)
	if sh == nil {
		s.mu.Unlock()
		return false
	}
	sh.used = time.Now()
	r, ok := sh.where[key.chunk]
	s.mu.Unlock()
	if !ok {
		return false
	}
	frame, err := sh.frame(r)
	if err == nil {
		var data []byte
		if data, err = s.unpack.DecodeAll(frame, p[:0]); err == nil {
			return len(data) == len(p)
		}
	}
	// Removed meanwhile, or the disk is broken. What takes its place has to be put.
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.where[key.chunk] == r {
		delete(sh.where, key.chunk)
	}
	return false
}

// put keeps a chunk if there is room; with evict others make room.
func (s *store) put(key chunkKey, data []byte, evict bool) {
	if s.has(key) {
		return
	}
	frame := s.pack.EncodeAll(data, make([]byte, 0, ChunkSize))
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.find(key.id)
	n := int64(len(frame) + listEntry)
	if s.total+n > s.limit && (!evict || !s.makeRoom(n, sh)) || !s.isSpare() {
		return
	}
	if sh == nil {
		sh = &shelf{path: filepath.Join(s.folder, key.id), where: map[int64]record{}}
		s.shelves[key.id] = sh
	}
	before := sh.size
	err := sh.add(key.chunk, frame)
	s.total += sh.size - before
	if err != nil {
		s.drop(key.id, sh) // what it came to be isn't known
		return
	}
	sh.used = time.Now()
}

// has tells whether a chunk is there, or can't be put there.
func (s *store) has(key chunkKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.find(key.id)
	if sh == nil {
		return false
	}
	_, ok := sh.where[key.chunk]
	return ok || sh.broken
}

// isSpare tells whether the file system has room that nobody else will miss.
func (s *store) isSpare() bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(s.lock.Fd()), &fs) == nil && fs.Bavail > fs.Blocks/freeShare
}

// makeRoom removes shelves until n more bytes fit, with mu held, but not the one
// that they are for. It reports whether they do.
func (s *store) makeRoom(n int64, but *shelf) bool {
	var ids []string
	for id, sh := range s.shelves {
		if sh != but {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(s.shelves[a].used.Compare(s.shelves[b].used), cmp.Compare(a, b))
	})
	for _, id := range ids {
		if s.total+n <= s.limit {
			break
		}
		s.drop(id, s.shelves[id])
	}
	return s.total+n <= s.limit
}

// drop removes a shelf, with mu held. One that can't be removed still counts.
func (s *store) drop(id string, sh *shelf) {
	if sh.remove() != nil {
		sh.where, sh.broken = map[int64]record{}, true
		return
	}
	delete(s.shelves, id)
	s.total -= sh.size
}
