package guestfs

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// pageSize is what of the metadata is read at once, bytes.
	pageSize = 64 << 10
	// pagesKept bounds what is remembered: 8 MiB.
	pagesKept = 128
)

// pages remembers the metadata that was read last: inodes lie beside each other, and
// the same blocks are looked at again and again. Data isn't read through it.
type pages struct {
	r    io.ReaderAt
	size int64

	mu    sync.Mutex
	known map[int64]*list.Element
	used  *list.List // of *page, the one used last in front
}

type page struct {
	number int64
	data   []byte
}

func newPages(r io.ReaderAt, size int64) *pages {
	return &pages{r: r, size: size, known: make(map[int64]*list.Element), used: list.New()}
}

// read fills p from off, or fails.
func (c *pages) read(p []byte, off int64) error {
	if off < 0 || off > c.size || int64(len(p)) > c.size-off {
		return corrupt(off, "%d bytes that lie past the end at %d", len(p), c.size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		data, err := c.page(off / pageSize)
		if err != nil {
			return err
		}
		n := copy(p, data[off%pageSize:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (c *pages) page(number int64) ([]byte, error) {
	if e, ok := c.known[number]; ok {
		c.used.MoveToFront(e)
		return e.Value.(*page).data, nil
	}
	off := number * pageSize
	data := make([]byte, min(pageSize, c.size-off))
	if err := readAll(c.r, data, off); err != nil {
		return nil, err
	}
	if c.used.Len() >= pagesKept {
		last := c.used.Back()
		delete(c.known, last.Value.(*page).number)
		c.used.Remove(last)
	}
	c.known[number] = c.used.PushFront(&page{number, data})
	return data, nil
}

// readAll fills p from off of the file system, and says where it failed.
func readAll(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return corrupt(off+int64(n), "the image ends there")
	}
	return &Error{Offset: off, Err: fmt.Errorf("reading the image: %w", err)}
}
