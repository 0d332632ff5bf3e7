package overlay

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
)

// blockSize is the unit of what an overlay owns, bytes.
const (
	blockShift = 12
	blockSize  = 1 << blockShift
)

// A page has the bits of 32,768 blocks, which are 128 MiB of an image.
const (
	wordBits  = 64
	pageWords = 512
	pageBits  = pageWords * wordBits
)

// blocks is a set of block numbers, in memory in proportion to how far they are spread.
type blocks struct {
	pages map[int64]*[pageWords]uint64
	count int64
}

// full is the page of a run that covers it, so that a large hole takes little memory.
// It is never changed.
var full = func() *[pageWords]uint64 {
	page := new([pageWords]uint64)
	for i := range page {
		page[i] = ^uint64(0)
	}
	return page
}()

// A run is the half-open range [from, to) of block numbers.
type run struct{ from, to int64 }

func (r run) len() int64 { return r.to - r.from }

func newBlocks() *blocks { return &blocks{pages: map[int64]*[pageWords]uint64{}} }

func (b *blocks) has(n int64) bool {
	page := b.pages[n/pageBits]
	return page != nil && page[n%pageBits/wordBits]&(1<<uint(n%wordBits)) != 0
}

// add puts a run into the set.
func (b *blocks) add(r run) {
	for part := range r.pages() {
		if part.len() == pageBits {
			b.count += pageBits - b.within(part)
			b.pages[part.from/pageBits] = full
			continue
		}
		page := b.page(part.from / pageBits)
		for word, mask := range part.words() {
			b.count += int64(bits.OnesCount64(mask &^ page[word]))
			page[word] |= mask
		}
	}
}

// remove takes a run out of the set.
func (b *blocks) remove(r run) {
	for part := range r.pages() {
		number := part.from / pageBits
		if b.pages[number] == nil {
			continue
		}
		if part.len() == pageBits {
			b.count -= b.within(part)
			delete(b.pages, number)
			continue
		}
		page := b.page(number)
		for word, mask := range part.words() {
			b.count -= int64(bits.OnesCount64(mask & page[word]))
			page[word] &^= mask
		}
	}
}

// page returns a page that may be changed.
func (b *blocks) page(number int64) *[pageWords]uint64 {
	page := b.pages[number]
	switch page {
	case nil:
		page = new([pageWords]uint64)
	case full:
		copied := *full
		page = &copied
	default:
		return page
	}
	b.pages[number] = page
	return page
}

// pages cuts a run where pages end.
func (r run) pages() iter.Seq[run] {
	return func(yield func(run) bool) {
		for at := r.from; at < r.to; {
			end := min((at/pageBits+1)*pageBits, r.to)
			if !yield(run{at, end}) {
				return
			}
			at = end
		}
	}
}

// words gives the words of a page that a run within it touches, and its bits there.
func (r run) words() iter.Seq2[int64, uint64] {
	return func(yield func(int64, uint64) bool) {
		for at := r.from; at < r.to; {
			first := at % wordBits
			taken := min(wordBits-first, r.to-at)
			mask := ^uint64(0) >> uint(wordBits-taken) << uint(first)
			if !yield(at%pageBits/wordBits, mask) {
				return
			}
			at += taken
		}
	}
}

// stretch returns whether n is in the set, and where that ends: at most at limit.
func (b *blocks) stretch(n, limit int64) (in bool, end int64) {
	in = b.has(n)
	for n < limit {
		page := b.pages[n/pageBits]
		if page == nil {
			if in {
				return in, n
			}
			n = (n/pageBits + 1) * pageBits
			continue
		}
		word := page[n%pageBits/wordBits]
		if in {
			word = ^word
		}
		if rest := word >> uint(n%wordBits); rest != 0 {
			return in, min(n+int64(bits.TrailingZeros64(rest)), limit)
		}
		n = (n/wordBits + 1) * wordBits
	}
	return in, limit
}

// within counts the blocks of a run that are in the set.
func (b *blocks) within(r run) (count int64) {
	for n := r.from; n < r.to; {
		in, end := b.stretch(n, r.to)
		if in {
			count += end - n
		}
		n = end
	}
	return count
}

// runs gives all of the set in order.
func (b *blocks) runs() iter.Seq[run] {
	return func(yield func(run) bool) {
		var last run
		for _, number := range slices.Sorted(maps.Keys(b.pages)) {
			limit := (number + 1) * pageBits
			for n := number * pageBits; n < limit; {
				in, end := b.stretch(n, limit)
				switch {
				case !in:
				case last.to == n:
					last.to = end
				default:
					if last.len() > 0 && !yield(last) {
						return
					}
					last = run{n, end}
				}
				n = end
			}
		}
		if last.len() > 0 {
			yield(last)
		}
	}
}
