package fs

import (
	"context"
	"sync"
	"time"

	"rbdbackupfs/internal/target"
)

const (
	// lingerFor is how long a file stays after its last close, for the process
	// that wrote it: rsync, install and others set times and modes by name then.
	lingerFor = 5 * time.Second
	// releaseWait is how long somebody else waits for the release of a file whose
	// last close was answered: the kernel sends it after that, and doesn't wait.
	releaseWait = 500 * time.Millisecond
)

// imports are the files of import/: those being written, and those that were a
// moment ago. An image that is restored is no file.
type imports struct {
	now     func() time.Time
	folders serials // by path below import/
	jobs    serials // by id
	dotted  sync.Once

	mu      sync.Mutex
	running map[target.Name]*importFile
	ended   map[target.Name]*importFile // not yet past lingerFor
	last    uint64                      // serial of the newest file
}

func newImports(now func() time.Time) *imports {
	return &imports{now: now, running: map[target.Name]*importFile{}, ended: map[target.Name]*importFile{}}
}

// number gives the serial of another file.
func (i *imports) number() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.last++
	return i.last
}

// add has a file found by its name. It is complete by then.
func (i *imports) add(f *importFile) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running[f.name] = f
}

// finish moves a file from the running ones to the ended.
func (i *imports) finish(f *importFile) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	if i.running[f.name] == f {
		delete(i.running, f.name)
		i.ended[f.name] = f
	}
}

// forget takes an ended file's name from it.
func (i *imports) forget(f *importFile) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended[f.name] == f {
		delete(i.ended, f.name)
	}
}

// expire drops files that have been there long enough; i.mu is held.
func (i *imports) expire() {
	now := i.now()
	for name, f := range i.ended {
		if now.Sub(f.endedAt()) >= lingerFor {
			delete(i.ended, name)
		}
	}
}

// get returns the file of that name, and whether it is a running one.
func (i *imports) get(name target.Name) (f *importFile, running bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expire()
	if f := i.running[name]; f != nil {
		return f, true
	}
	return i.ended[name], false
}

// within returns the running files of a folder.
func (i *imports) within(pool, namespace string) []*importFile {
	i.mu.Lock()
	defer i.mu.Unlock()
	var files []*importFile
	for name, f := range i.running {
		if name.Pool == pool && name.Namespace == namespace {
			files = append(files, f)
		}
	}
	return files
}

// serials numbers things by a key, the same key always the same.
type serials struct {
	mu    sync.Mutex
	last  uint64
	byKey map[string]uint64
}

func (s *serials) get(key string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, known := s.byKey[key]; known {
		return n
	}
	if s.byKey == nil {
		s.byKey = map[string]uint64{}
	}
	s.last++
	s.byKey[key] = s.last
	return s.last
}

// keep forgets all keys but these. One that comes back has another number.
func (s *serials) keep(keys map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.byKey {
		if !keys[key] {
			delete(s.byKey, key)
		}
	}
}

// importing returns the file that a caller finds by a name, nil if there is none.
// Somebody else than its writer doesn't find a file that is about to end, so that
// an export with O_EXCL can follow at once.
func (t *tree) importing(ctx context.Context, name target.Name) *importFile {
	f, running := t.imports.get(name)
	switch {
	case f == nil:
		return nil
	case f.writtenBy(callerOf(ctx)):
		return f
	case running && !f.endsSoon(ctx):
		return f
	}
	return nil
}
