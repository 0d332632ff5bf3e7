package index

import (
	"bytes"
	"slices"
	"sync"

	"github.com/tidwall/btree"
)

// memoryStore is the store of an index that isn't kept. It bounds nothing.
type memoryStore struct {
	mu    sync.RWMutex
	tree  btree.Map[string, []byte]
	since uint64
}

func newMemoryStore() *memoryStore { return &memoryStore{} }

func (m *memoryStore) get(key []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, _ := m.tree.Get(string(key))
	return bytes.Clone(v), nil
}

func (m *memoryStore) seek(from []byte, _ uint64, found func(key, value []byte) error) (err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.tree.Ascend(string(from), func(k string, v []byte) bool {
		err = found([]byte(k), v)
		return false
	})
	return err
}

// scan works on a copy of the range, so that each may write.
func (m *memoryStore) scan(prefix []byte, each func(key, value []byte) (bool, error)) error {
	type pair struct{ k, v []byte }
	var pairs []pair
	m.mu.RLock()
	m.tree.Ascend(string(prefix), func(k string, v []byte) bool {
		if !bytes.HasPrefix([]byte(k), prefix) {
			return false
		}
		pairs = append(pairs, pair{[]byte(k), v})
		return true
	})
	m.mu.RUnlock()
	for _, p := range pairs {
		if more, err := each(p.k, p.v); !more || err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryStore) write(b *batch) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, k := range b.keys {
		if b.values[i] == nil {
			m.tree.Delete(string(k))
		} else {
			m.tree.Set(string(k), slices.Clone(b.values[i]))
		}
	}
	m.since++
	return m.since, nil
}

func (m *memoryStore) sync() error  { return nil }
func (m *memoryStore) close() error { return nil }
