package index

// A store is an ordered map from keys to values. Two implementations pass the
// same tests: Badger on disk and a tree in memory. Both are safe for
// concurrent use.
type store interface {
	// get returns a copy of the value, or nil when there is none.
	get(key []byte) ([]byte, error)
	// seek finds the first key at or after from and hands it to found, whose
	// arguments are valid during the call only; found isn't called when there
	// is none. The caller must see writes up to since, later ones it may.
	seek(from []byte, since uint64, found func(key, value []byte) error) error
	// scan hands all keys with the prefix to each, in order, until it returns
	// false or an error.
	scan(prefix []byte, each func(key, value []byte) (bool, error)) error
	// write stores a batch; it is not durable before sync. It returns the
	// number that makes the batch visible to seek.
	write(b *batch) (since uint64, err error)
	// sync makes everything durable that was written before.
	sync() error
	close() error
}

// A batch holds changes in the order they were made; a nil value deletes.
type batch struct {
	keys   [][]byte
	values [][]byte
	bytes  int
}

func (b *batch) put(key, value []byte) {
	b.keys = append(b.keys, key)
	b.values = append(b.values, value)
	b.bytes += len(key) + len(value)
}

func (b *batch) remove(key []byte) { b.put(key, nil) }

func (b *batch) reset() { *b = batch{keys: b.keys[:0], values: b.values[:0]} }
