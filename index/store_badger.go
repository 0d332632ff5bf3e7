package index

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Badger's memory: two memtables with their skip lists, the block cache and
// the table indexes. Measured in docs/adr/0003; its defaults took 360 MiB.
const (
	memTableSize   = 8 << 20
	numMemtables   = 2
	blockCacheSize = 24 << 20
	indexCacheSize = 16 << 20
	valueLogSize   = 128 << 20 // and the most that one value can have

	maxIdleIterators = 16
)

// badgerStore is the store on disk.
type badgerStore struct {
	db  *badger.DB
	dir string

	mu    sync.Mutex
	since uint64 // counts writes
	idle  []*badgerIterator
}

// A badgerIterator sees the database as it was at since.
type badgerIterator struct {
	txn   *badger.Txn
	it    *badger.Iterator
	since uint64
}

func (i *badgerIterator) close() {
	i.it.Close()
	i.txn.Discard()
}

func openBadger(dir string, log *slog.Logger) (*badgerStore, error) {
	o := badger.DefaultOptions(dir).
		WithMemTableSize(memTableSize).
		WithNumMemtables(numMemtables).
		WithBlockCacheSize(blockCacheSize).
		WithIndexCacheSize(indexCacheSize).
		WithValueLogFileSize(valueLogSize).
		WithNumCompactors(2).
		WithNumGoroutines(2).
		WithCompression(options.ZSTD).
		WithBlockSize(16 << 10).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithLogger(badgerLog{log})
	db, err := badger.Open(o)
	if err != nil {
		return nil, err
	}
	return &badgerStore{db: db, dir: dir}, nil
}

func (s *badgerStore) get(key []byte) (value []byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	return value, err
}

// seek uses long-lived iterators: making one costs as much as ten seeks.
func (s *badgerStore) seek(from []byte, since uint64, found func(key, value []byte) error) error {
	i := s.iterator(since)
	defer s.release(i)
	i.it.Seek(from)
	if !i.it.Valid() {
		return nil
	}
	item := i.it.Item()
	return item.Value(func(v []byte) error { return found(item.Key(), v) })
}

// iterator takes an idle iterator that sees what since saw. Those that don't
// are closed: they would keep replaced tables alive.
func (s *badgerStore) iterator(since uint64) *badgerIterator {
	s.mu.Lock()
	var stale []*badgerIterator
	for n := len(s.idle); n > 0; n = len(s.idle) {
		i := s.idle[n-1]
		s.idle = s.idle[:n-1]
		if i.since >= since {
			s.mu.Unlock()
			closeAll(stale)
			return i
		}
		stale = append(stale, i)
	}
	now := s.since
	s.mu.Unlock()
	closeAll(stale)
	txn := s.db.NewTransaction(false)
	o := badger.IteratorOptions{Prefix: []byte{keyChunk}}
	return &badgerIterator{txn: txn, it: txn.NewIterator(o), since: now}
}

func closeAll(list []*badgerIterator) {
	for _, i := range list {
		i.close()
	}
}

func (s *badgerStore) release(i *badgerIterator) {
	s.mu.Lock()
	keep := len(s.idle) < maxIdleIterators
	if keep {
		s.idle = append(s.idle, i)
	}
	s.mu.Unlock()
	if !keep {
		i.close()
	}
}

// refresh closes the idle iterators, so that compacted tables can go.
func (s *badgerStore) refresh() {
	s.mu.Lock()
	idle := s.idle
	s.idle = nil
	s.mu.Unlock()
	closeAll(idle)
}

func (s *badgerStore) scan(prefix []byte, each func(key, value []byte) (bool, error)) error {
	return s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = prefix
		o.PrefetchSize = 256
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			more := false
			err := item.Value(func(v []byte) (err error) {
				more, err = each(item.Key(), v)
				return err
			})
			if err != nil || !more {
				return err
			}
		}
		return nil
	})
}

func (s *badgerStore) write(b *batch) (uint64, error) {
	w := s.db.NewWriteBatch()
	defer w.Cancel()
	for i, k := range b.keys {
		var err error
		if b.values[i] == nil {
			err = w.Delete(bytes.Clone(k))
		} else {
			err = w.Set(bytes.Clone(k), bytes.Clone(b.values[i]))
		}
		if err != nil {
			return 0, err
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since++
	return s.since, nil
}

// sync makes Badger's logs durable. Its own Sync leaves out the memtables that
// wait to be flushed, so their logs are synced one by one here.
func (s *badgerStore) sync() error {
	s.refresh()
	if err := s.db.Sync(); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, name := range append(logs, s.dir) {
		if err := syncFile(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// syncFile makes a file or folder durable. A log that is gone has been flushed.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// closePatience bounds how long close waits for Badger, which tries for ever
// to flush its memtables to a full disk. The logs are synced by then: what isn't
// flushed is read from them the next time.
const closePatience = 20 * time.Second

var errNotClosed = errors.New("its store can't be flushed")

// close closes the database. In a folder that was deleted Badger would never
// end, so there it is left to the end of the process.
func (s *badgerStore) close() error {
	s.refresh()
	if _, err := os.Stat(filepath.Join(s.dir, "MANIFEST")); err != nil {
		return err
	}
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closePatience):
		return errNotClosed
	}
}

// badgerLog hands Badger's messages to slog: its information is our debugging.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any) {
	l.log.Error("index store", slog.String("text", line(f, a)))
}

func (l badgerLog) Warningf(f string, a ...any) {
	l.log.Debug("index store", slog.String("text", line(f, a)))
}

func (l badgerLog) Infof(f string, a ...any) {
	l.log.Debug("index store", slog.String("text", line(f, a)))
}
func (l badgerLog) Debugf(string, ...any) {}

func line(f string, a []any) string { return string(bytes.TrimSpace(fmt.Appendf(nil, f, a...))) }
