package overlay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Name says what an overlay is of.
type Name struct {
	Image    string // any bytes
	Snapshot string // any bytes, unique in the image
}

// An Identity says what an overlay lies on.
type Identity struct {
	Name
	ID   string // differs whenever the bytes below may differ
	Size int64  // of the image, bytes
}

// Info is what is known of one overlay.
type Info struct {
	Identity
	Bytes    int64     // that it takes in the folder
	Modified time.Time // when it was last written to; zero if never
	Open     int       // how often it is open
	Files    string    // what its files begin with, a path
	Err      error     // why it can't be used, nil if it can: ErrDamaged
}

const (
	lockName = "lock"
	dataExt  = ".data"
	mapExt   = ".map"
	newExt   = ".new"
)

// A Store is a folder of overlays, for one process. All methods may be called at the
// same time.
type Store struct {
	folder string
	limit  int64 // bytes
	lock   *os.File

	mu       sync.Mutex
	used     int64               // bytes
	overlays map[string]*Overlay // by their base, since a damaged one may not know its name
}

// Open takes a folder, and makes it if need be. limit bounds what all overlays
// together may take, in bytes; what is there already stays. Errors: ErrLocked.
func Open(folder string, limit int64) (*Store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(folder, lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	s := &Store{folder: folder, limit: limit, lock: lock, overlays: map[string]*Overlay{}}
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("the scratch folder %s is %w", folder, ErrLocked)
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// Folder is where the overlays are.
func (s *Store) Folder() string { return s.folder }

// Limit is what all overlays together may take, bytes.
func (s *Store) Limit() int64 { return s.limit }

// Used is what they take, bytes.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// load finds what an earlier process left.
func (s *Store) load() error {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(s.folder, entry.Name())
		switch base, ext := cutExt(path); ext {
		case mapExt:
			s.loadOverlay(base)
		case dataExt:
			// A map is made after its data, and removed before them.
			if _, err := os.Lstat(base + mapExt); errors.Is(err, os.ErrNotExist) {
				err = os.Remove(path)
				if err != nil {
					return err
				}
			}
		case newExt:
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func cutExt(path string) (base, ext string) {
	ext = filepath.Ext(path)
	return strings.TrimSuffix(path, ext), ext
}

// loadOverlay reads one map. One that can't be used is kept, for Info to tell of.
func (s *Store) loadOverlay(base string) {
	o := newOverlay(s, base, Identity{})
	o.err = o.load()
	if o.err != nil && !errors.Is(o.err, ErrDamaged) {
		o.err = fmt.Errorf("%w: %w", ErrDamaged, o.err)
	}
	if o.err == nil && s.base(o.id.Name) != base {
		o.err = fmt.Errorf("%w: %s is of another image", ErrDamaged, base+mapExt)
	}
	if o.err != nil && s.base(o.id.Name) != base {
		o.id.Name = Name{Snapshot: filepath.Base(base)} // it doesn't say
	}
	s.overlays[base] = o
	s.used += o.bytes
}

// base is what the names of an overlay's files begin with.
func (s *Store) base(name Name) string {
	sum := sha256.Sum256([]byte(name.Image + "\x00" + name.Snapshot))
	return filepath.Join(s.folder, hex.EncodeToString(sum[:16]))
}

// Open gives the overlay over an image. It has no files before the first write.
// Errors: ErrChanged, ErrDamaged.
func (s *Store) Open(id Identity) (*Overlay, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := s.base(id.Name)
	o := s.overlays[base]
	switch {
	case o == nil:
		o = newOverlay(s, base, id)
		s.overlays[base] = o
	case o.err != nil:
		return nil, o.err
	case o.id != id:
		return nil, ErrChanged
	}
	if o.refs == 0 {
		if err := o.attach(); err != nil {
			return nil, err
		}
	}
	o.refs++
	return o, nil
}

// close is the end of one use of an overlay.
func (s *Store) close(o *Overlay) error {
	err := o.Sync() // which may take long, and so without the lock
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.refs--; o.refs > 0 {
		return err
	}
	if err == nil {
		err = o.Sync() // what another use has written since
	}
	broken := o.failure() != nil
	err = errors.Join(err, o.detach())
	if o.exists && !broken {
		return err
	}
	delete(s.overlays, o.base)
	if o.exists {
		// What is durable is in the files, and not in memory.
		s.used -= o.bytes
		s.loadOverlay(o.base)
	}
	return err
}

// Drop removes what was written over a snapshot. It is no error if there is nothing.
// Errors: ErrBusy.
func (s *Store) Drop(name Name) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overlays[s.base(name)]
	if o == nil {
		return nil
	}
	if o.refs > 0 {
		return ErrBusy
	}
	// The map first: data without it are nothing.
	for _, ext := range []string{mapExt, dataExt} {
		if err := os.Remove(o.base + ext); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := syncFolder(s.folder); err != nil {
			return err
		}
	}
	delete(s.overlays, o.base)
	s.used -= o.bytes
	return nil
}

// Info tells of the overlay of a snapshot, if there is one with files, or that is open.
func (s *Store) Info(name Name) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.overlays[s.base(name)]
	if o == nil {
		return Info{}, false
	}
	return o.info(), true
}

// List tells of all overlays that have files, sorted by name.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Info
	for _, o := range s.overlays {
		if o.exists {
			list = append(list, o.info())
		}
	}
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.Snapshot, b.Snapshot))
	})
	return list
}

// Close ends the use of the folder. What is open still, in a mount that was taken away
// by force, is made durable, and can't be used any more.
func (s *Store) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.overlays {
		if o.refs > 0 {
			err = errors.Join(err, o.Sync())
		}
	}
	return errors.Join(err, s.lock.Close())
}

// reserve takes bytes from the limit, or gives some back. Errors: ErrLimit.
func (s *Store) reserve(o *Overlay, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes > 0 && s.used+bytes > s.limit {
		return ErrLimit
	}
	s.used += bytes
	o.bytes += bytes
	return nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
