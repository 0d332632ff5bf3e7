package index

import (
	"container/list"
	"sync"
)

// A cache keeps decoded records, the ones used last, bounded by the number of
// their segments. It is split in shards so that readers rarely meet.
type cache struct{ shards [cacheShards]cacheShard }

const (
	cacheShards  = 16
	recordWeight = 4 // what a record without segments counts
)

type cacheKey struct {
	number uint32
	chunk  chunkID
}

type cacheShard struct {
	mu     sync.Mutex
	limit  int
	weight int
	items  map[cacheKey]*list.Element
	order  list.List // front: used last
}

type cacheItem struct {
	key cacheKey
	rec record
}

func newCache(segments int) *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].limit = segments / cacheShards
		c.shards[i].items = map[cacheKey]*list.Element{}
	}
	return c
}

func (c *cache) shard(k cacheKey) *cacheShard {
	h := uint64(k.number)*0x9e3779b97f4a7c15 ^ uint64(k.chunk.num)*0xbf58476d1ce4e5b9
	return &c.shards[h>>60]
}

func (c *cache) get(k cacheKey) (record, bool) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.items[k]
	if !ok {
		return record{}, false
	}
	s.order.MoveToFront(e)
	return e.Value.(*cacheItem).rec, true
}

func (c *cache) put(k cacheKey, r record) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.items[k]; ok {
		return
	}
	s.items[k] = s.order.PushFront(&cacheItem{k, r})
	s.weight += len(r.segs) + recordWeight
	for s.weight > s.limit && s.order.Len() > 1 {
		old := s.order.Remove(s.order.Back()).(*cacheItem)
		delete(s.items, old.key)
		s.weight -= len(old.rec.segs) + recordWeight
	}
}
