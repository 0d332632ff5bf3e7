package packed

import (
	"container/list"
	"sync"
)

// A memory holds the chunks that were used last, in buffers that are used again:
// new ones of this size cost more than unpacking into them.
type memory struct {
	limit int

	mu     sync.Mutex
	chunks map[chunkKey]*chunk
	order  *list.List // of *chunk, the one used last in front
	free   [][]byte
}

// A chunk is one part of a content. Whoever has got one releases it.
type chunk struct {
	key   chunkKey
	data  []byte
	users int           // guarded by memory.mu
	place *list.Element // in memory.order; nil when it isn't kept any more
}

type chunkKey struct {
	id    string
	chunk int64
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, chunks: map[chunkKey]*chunk{}, order: list.New()}
}

// get returns a chunk that is held, or nil.
func (m *memory) get(key chunkKey) *chunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.chunks[key]
	if c != nil {
		c.users++
		m.order.MoveToFront(c.place)
	}
	return c
}

// take returns a chunk to be filled, and then to be kept or just released.
func (m *memory) take(key chunkKey, size int) *chunk {
	m.mu.Lock()
	defer m.mu.Unlock()
	var buf []byte
	if n := len(m.free); n > 0 {
		buf, m.free = m.free[n-1], m.free[:n-1]
	} else {
		buf = make([]byte, ChunkSize)
	}
	return &chunk{key: key, data: buf[:size], users: 1}
}

// keep makes a chunk one that get finds.
func (m *memory) keep(c *chunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.chunks[c.key]; old != nil {
		m.drop(old)
	}
	m.chunks[c.key] = c
	c.place = m.order.PushFront(c)
	for m.order.Len() > m.limit {
		if last, ok := m.order.Back().Value.(*chunk); ok {
			m.drop(last)
		}
	}
}

// drop ends the keeping of a chunk, with mu held.
func (m *memory) drop(c *chunk) {
	m.order.Remove(c.place)
	c.place = nil
	delete(m.chunks, c.key)
	m.reuse(c)
}

// release ends a use of a chunk.
func (m *memory) release(c *chunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.users--
	m.reuse(c)
}

// reuse takes back the buffer of a chunk that nobody has, with mu held.
func (m *memory) reuse(c *chunk) {
	if c.users == 0 && c.place == nil && c.data != nil && len(m.free) < parallelChunks {
		m.free = append(m.free, c.data[:ChunkSize])
		c.data = nil
	}
}
