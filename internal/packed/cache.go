package packed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	// memoryChunks is how many chunks are kept in memory.
	memoryChunks = 64
	// parallelChunks is how many more buffers are kept for those that come next.
	parallelChunks = 8
	// maxCursors is how many files can be read on from where somebody stopped, and
	// cursorMemory how much their decoders may hold together, bytes. One may always be.
	maxCursors   = 16
	cursorMemory = 64 << 20
	// heavyMemory is what a decoder may hold without waiting for others that do, bytes.
	heavyMemory = 32 << 20
)

// A Cache gives the content of compressed files. It is safe for concurrent use.
type Cache struct {
	memory *memory
	store  *store // nil for none
	temp   string // the store's folder, if it goes with the Cache

	heavyScan, heavyRead chan struct{} // held by the one scan and the one read that take much memory

	mu      sync.Mutex
	cursors []*cursor // that nobody uses, the one used last at the end
}

// A cursor is a stream that stands somewhere in the content.
type cursor struct {
	m      *Map
	stream *stream
	file   *lent
}

// at is how much of the content comes before the cursor, which may be less than
// nothing.
func (c *cursor) at() int64 { return c.stream.out - c.m.skip }

// lent is a source that belongs to one call after the other.
type lent struct{ src io.ReaderAt }

func (l *lent) ReadAt(p []byte, off int64) (int, error) { return l.src.ReadAt(p, off) }

// NewCache returns a Cache. With a folder it keeps there what is hard to reach, at
// most limit bytes; "" is for none. Close it at the end.
func NewCache(folder string, limit int64) (*Cache, error) {
	if folder == "" || limit <= 0 {
		return newCache(nil), nil
	}
	s, err := openStore(folder, limit)
	if err != nil {
		return nil, err
	}
	return newCache(s), nil
}

func newCache(s *store) *Cache {
	return &Cache{memory: newMemory(memoryChunks), store: s, heavyScan: make(chan struct{}, 1), heavyRead: make(chan struct{}, 1)}
}

// Close ends the use of the cache. No call may be running.
func (c *Cache) Close() error {
	for _, cur := range c.cursors {
		cur.stream.close()
	}
	c.cursors = nil
	if c.store == nil {
		return nil
	}
	var err error
	if c.temp != "" {
		err = os.RemoveAll(c.temp) // as long as it is locked
	}
	return errors.Join(err, c.store.close())
}

// ReadAt fills p with the content of a compressed file of size bytes, from off on.
// All of p has to be within the content. Errors are *Error, with ErrCorrupt where
// the content isn't what the Map says; the source's; or the context's.
func (c *Cache) ReadAt(ctx context.Context, src io.ReaderAt, size int64, m *Map, p []byte, off int64) error {
	for len(p) > 0 {
		chunk := off / ChunkSize
		from := off % ChunkSize
		part := p[:min(int64(len(p)), ChunkSize-from)]
		if m.zero(off, off+int64(len(part))) {
			clear(part)
		} else {
			data, err := c.chunk(ctx, src, size, m, chunk)
			if err != nil {
				return err
			}
			n := copy(part, data.data[min(from, int64(len(data.data))):])
			c.memory.release(data)
			if n != len(part) {
				return fmt.Errorf("read past the %d bytes of the content: %w", m.size, io.ErrUnexpectedEOF)
			}
		}
		p, off = p[len(part):], off+int64(len(part))
	}
	return nil
}

// kept returns a chunk that is at hand, or nil.
func (c *Cache) kept(m *Map, n int64) *chunk {
	key := chunkKey{m.id, n}
	if data := c.memory.get(key); data != nil {
		return data
	}
	if c.store == nil || !m.kept(n) {
		return nil
	}
	data := c.memory.take(key, m.length(n))
	if !c.store.get(key, data.data) || checksum(data.data) != m.sums[n] {
		c.memory.release(data)
		return nil
	}
	c.memory.keep(data)
	return data
}

// chunk returns a chunk, which isn't to be changed, and is to be released.
func (c *Cache) chunk(ctx context.Context, src io.ReaderAt, size int64, m *Map, n int64) (*chunk, error) {
	if data := c.kept(m, n); data != nil {
		return data, nil
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.turn }()
	if data := c.kept(m, n); data != nil {
		return data, nil
	}
	cur, err := c.take(m, src, size, n*ChunkSize)
	if err != nil {
		return nil, err
	}
	much := turn{ctx: ctx, of: c.heavyRead}
	defer much.end()
	cur.stream.room = much.take
	if err = much.take(cur.stream.memory()); err == nil {
		var data *chunk
		if data, err = c.advance(ctx, cur, n); err == nil {
			c.giveBack(cur)
			return data, nil
		}
	}
	cur.stream.close()
	return nil, err
}

// take returns the stream from which an offset is reached soonest.
func (c *Cache) take(m *Map, src io.ReaderAt, size, off int64) (*cursor, error) {
	from := m.before(off)
	c.mu.Lock()
	best := -1
	for i, cur := range c.cursors {
		if cur.m.id == m.id && cur.at() <= off && cur.stream.out >= from.out &&
			(best < 0 || cur.at() > c.cursors[best].at()) {
			best = i
		}
	}
	if best >= 0 {
		cur := c.cursors[best]
		c.cursors = append(c.cursors[:best], c.cursors[best+1:]...)
		c.mu.Unlock()
		cur.file.src = src
		return cur, nil
	}
	c.mu.Unlock()
	file := &lent{src}
	s, err := newStream(m.codec, file, size, from.at, from.out)
	return &cursor{m, s, file}, err
}

// giveBack keeps a stream for whoever reads on.
func (c *Cache) giveBack(cur *cursor) {
	cur.file.src, cur.stream.room = nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cursors = append(c.cursors, cur)
	held := int64(0)
	for _, other := range c.cursors {
		held += other.stream.memory()
	}
	for len(c.cursors) > maxCursors || held > cursorMemory && len(c.cursors) > 1 {
		held -= c.cursors[0].stream.memory()
		c.cursors[0].stream.close()
		c.cursors = c.cursors[1:]
	}
}

// advance unpacks up to the end of a chunk, and keeps what it passes.
func (c *Cache) advance(ctx context.Context, cur *cursor, last int64) (*chunk, error) {
	m := cur.m
	// The first bytes may be those of a chunk that began before, or of what comes
	// before the content.
	if rest := -cur.at(); rest > 0 {
		if err := cur.discard(ctx, rest); err != nil {
			return nil, err
		}
	}
	if rest := cur.at() % ChunkSize; rest > 0 {
		if err := cur.discard(ctx, ChunkSize-rest); err != nil {
			return nil, err
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := cur.at() / ChunkSize
		data := c.memory.take(chunkKey{m.id, n}, m.length(n))
		if _, err := io.ReadFull(cur.stream, data.data); err != nil {
			c.memory.release(data)
			return nil, cur.differs(err)
		}
		if checksum(data.data) != m.sums[n] {
			c.memory.release(data)
			return nil, cur.differs(nil)
		}
		if c.store != nil && m.kept(n) {
			c.store.put(data.key, data.data, true)
		}
		c.memory.keep(data)
		if n == last {
			return data, nil
		}
		c.memory.release(data)
	}
}

// discard unpacks n bytes that nobody wants.
func (c *cursor) discard(ctx context.Context, n int64) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := c.stream.Read(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return c.differs(err)
		}
		n -= int64(got)
	}
	return nil
}

// differs is the error of content that isn't as it was when it was mapped.
func (c *cursor) differs(err error) error {
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	return &Error{
		Pos: c.stream.pos(), Err: ErrCorrupt, Reason: "unpacks to other bytes than when it was indexed",
		Hint: "Check the disk, and compare the file with another copy",
	}
}

// Scan unpacks a file of size bytes once. With inTar the content is that of the one
// file in an archive. The id is a name for the content, [0-9a-z-]+. What is hard to
// reach goes into the store, if there is room without driving others out. Errors are
// *Error, the source's, or the context's.
func (c *Cache) Scan(ctx context.Context, src io.ReaderAt, size int64, codec Codec, inTar bool, id string) (*Map, error) {
	var keep func(int64, []byte)
	if c.store != nil {
		keep = func(chunk int64, data []byte) { c.store.put(chunkKey{id, chunk}, data, false) }
	}
	much := turn{ctx: ctx, of: c.heavyScan}
	defer much.end()
	return scan(ctx, src, size, codec, inTar, id, keep, much.take)
}
