package chain

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rbdbackupfs/index"
)

// A Change is the half-open range [Off, Off+Len) of an image whose bytes may
// differ between two views.
type Change struct {
	Off  int64 // bytes
	Len  int64 // bytes, at least 1
	Data bool  // false: reads as zeros in the later view
}

// End is the first byte after the change.
func (c Change) End() int64 { return c.Off + c.Len }

// String gives "[off,end) data" or "[off,end) zero".
func (c Change) String() string {
	kind := "zero"
	if c.Data {
		kind = "data"
	}
	return fmt.Sprintf("[%d,%d) %s", c.Off, c.End(), kind)
}

// changeStep bounds how much is compared at once, bytes: the segments of two
// such ranges are all that Changes keeps, and there may be one for each byte.
const changeStep = 256 << 10

// Changes calls visit, in ascending order and without overlaps, with every
// range in [off, v.Size()) in which v may differ from the view from; nil stands
// for an empty image of size 0. Bytes outside of them are equal in both, where
// those past the size of from count as zeros. Two changes that touch are of
// different kinds.
//
// No bytes are read: what both take from the same place of the same backup file
// is equal, anything else a change, be its bytes the same. So both views must be
// of one Library, and neither needs to be older. It ends early with the error
// of visit, as it is. Errors: ErrNotFound for a view of another Library or off
// below 0.
func (v *View) Changes(ctx context.Context, from *View, off int64, visit func(Change) error) error {
	if off < 0 {
		return fmt.Errorf("changes from offset %d: %w", off, ErrNotFound)
	}
	if from != nil && from.lib != v.lib {
		return fmt.Errorf("changes between views of two libraries: %w", ErrNotFound)
	}
	if from != nil && from.n.Number == v.n.Number {
		return ctx.Err()
	}
	c := &changes{v: v, from: from, visit: visit}
	for at, size := off, v.Size(); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := at + min(changeStep-at%changeStep, size-at)
		holes, err := c.compare(at, end)
		if err != nil {
			return err
		}
		at = end
		if holes && at%index.ChunkSize == 0 {
			if at, err = c.skip(at); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

// changes is one run of View.Changes.
type changes struct {
	v, from *View
	visit   func(Change) error
	last    Change // not yet visited, it may go on; empty when Len is 0

	segs, old []index.Segment
}

// compare adds the changes in [off, end), and tells whether both have nothing
// but holes there.
func (c *changes) compare(off, end int64) (holes bool, err error) {
	if c.segs, err = c.v.m.Append(c.segs[:0], off, end); err != nil {
		return false, err
	}
	c.old = c.old[:0]
	if c.from != nil {
		if c.old, err = c.from.m.Append(c.old, off, end); err != nil {
			return false, err
		}
	}
	holes = true
	old := c.old
	for _, s := range c.segs {
		for at := s.Off; at < s.End(); {
			for len(old) > 0 && old[0].End() <= at {
				old = old[1:]
			}
			before := index.Segment{Off: at, Len: end - at} // past the size of from
			if len(old) > 0 {
				before = old[0]
			}
			to := min(s.End(), before.End())
			holes = holes && s.Hole() && before.Hole()
			if !samePlace(s, before) {
				if err := c.add(Change{Off: at, Len: to - at, Data: !s.Hole()}); err != nil {
					return false, err
				}
			}
			at = to
		}
	}
	return holes, nil
}

// samePlace tells whether two segments take the bytes that both cover from the
// same place.
func samePlace(a, b index.Segment) bool {
	return a.Source == b.Source && (a.Hole() || a.Pos-a.Off == b.Pos-b.Off)
}

func (c *changes) add(next Change) error {
	if c.last.Len > 0 && c.last.End() == next.Off && c.last.Data == next.Data {
		c.last.Len += next.Len
		return nil
	}
	err := c.flush()
	c.last = next
	return err
}

func (c *changes) flush() error {
	if c.last.Len == 0 {
		return nil
	}
	last := c.last
	c.last = Change{}
	return c.visit(last)
}

// skip returns the first offset at or after off where either may have data, or
// the size of v. It doesn't look at the data: NextData could go through the
// records of a whole image before ctx is asked again.
func (c *changes) skip(off int64) (int64, error) {
	next := c.v.Size()
	for _, v := range []*View{c.v, c.from} {
		if v == nil {
			continue
		}
		at, err := v.m.NextRecord(off)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return 0, err
		}
		next = min(next, at)
	}
	return next, nil
}
