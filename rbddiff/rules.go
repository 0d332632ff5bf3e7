package rbddiff

import (
	"math"
	"strings"
)

// A diffRules checks the records of one diff, in the order they come.
type diffRules struct {
	hasFrom, hasTo, hasSize, hasProtect bool

	from, to string
	size     int64 // MaxSize until it is known
	maxEnd   int64 // largest extent end
	extents  int64
	prevTo   string // of the diff before this one; only in a container
	chained  bool   // this diff has to start at prevTo, or at nothing when that is empty
}

func newDiffRules() diffRules { return diffRules{size: MaxSize} }

// checkName checks the bytes of a snapshot's name.
func checkName(what, name string) *fault {
	switch {
	case name == "":
		return faultf("the %s snapshot has an empty name", what)
	case strings.IndexByte(name, 0) >= 0:
		return faultf("the %s snapshot's name has a NUL byte in it, and rbd would take just what stands before", what)
	}
	return nil
}

func checkNameLen(what string, n uint64) *fault {
	if n > MaxName {
		return faultf("the %s snapshot's name is said to be %d bytes long, more than %d", what, n, MaxName)
	}
	return nil
}

func (d *diffRules) addFrom(name string) *fault {
	if d.hasFrom {
		return faultf("a second start snapshot")
	}
	if f := checkName("start", name); f != nil {
		return f
	}
	if d.chained && name != d.prevTo {
		if d.prevTo == "" {
			return faultf("the first diff of an export starts at snapshot %q, which isn't in the file", name)
		}
		return faultf("the diff starts at snapshot %q, and the one before it ends at %q", name, d.prevTo)
	}
	d.hasFrom, d.from = true, name
	return d.checkEnds()
}

func (d *diffRules) addTo(name string) *fault {
	if d.hasTo {
		return faultf("a second end snapshot")
	}
	if f := checkName("end", name); f != nil {
		return f
	}
	d.hasTo, d.to = true, name
	return d.checkEnds()
}

func (d *diffRules) checkEnds() *fault {
	if d.hasFrom && d.hasTo && d.from == d.to {
		f := faultf("the diff starts and ends at the same snapshot %q", d.to)
		f.hint = "A diff from a snapshot to itself holds no change: remove the file"
		return f
	}
	return nil
}

func (d *diffRules) addProtect() *fault {
	if d.hasProtect {
		return faultf("a second protection record")
	}
	d.hasProtect = true
	return nil
}

func checkSize(size uint64) *fault {
	if size > MaxSize {
		f := faultf("the image's size %d is more than a file can have", size)
		f.hint = "Nothing can show or hold an image of that size; make the export again from an image of at most 8 EiB"
		return f
	}
	return nil
}

// addSize also judges a size that comes after extents: it is of equal effect
// with one before them only if it cuts none of them.
func (d *diffRules) addSize(size int64) *fault {
	if d.hasSize {
		return faultf("a second image size")
	}
	if d.maxEnd > size {
		return faultf("the image's size %d comes after an extent that ends at %d, and would cut it", size, d.maxEnd)
	}
	d.hasSize, d.size = true, size
	return nil
}

// addExtent checks a data or zero record. past means that it is an extent
// which passes the image's size but no other bound.
func (d *diffRules) addExtent(off, length uint64) (f *fault, past bool) {
	if off > MaxSize || length > MaxSize-off {
		return faultf("the extent %d~%d passes the largest offset", off, length), false
	}
	end := int64(off + length)
	if end > d.size {
		f := faultf("the extent %d~%d ends past the image's size %d", off, length, d.size)
		if int64(off) < d.size {
			f.hint = "rbd import-diff would cut it without a word: make the export again"
		}
		return f, true
	}
	d.maxEnd = max(d.maxEnd, end)
	d.extents++
	return nil, false
}

// finish checks what can only be said at the end. The warning is not the
// zero value when the diff is odd but usable.
func (d *diffRules) finish() (warning Warning, f *fault) {
	switch {
	case d.chained && d.prevTo != "" && !d.hasFrom:
		return warning, faultf("the diff has no start snapshot, and only the first one of an export may have none")
	case d.hasSize:
		return warning, nil
	case d.chained:
		return warning, faultf("the diff doesn't say the image's size")
	case d.hasFrom:
		return Warning{
			Reason: "the diff doesn't say the image's size, so that of its start snapshot is kept",
			Hint:   "Make the export again if the image was resized",
		}, nil
	case d.hasTo || d.extents > 0:
		return warning, faultf("a full diff that doesn't say the image's size")
	}
	return Warning{
		Reason: "the diff is empty: no start snapshot, no size, no data",
		Hint:   "Nothing can be read from this file; remove it",
	}, nil
}

// A containerRules checks what spans the diffs of a container.
type containerRules struct {
	count  int64 // diffs the file claims to have
	done   int64 // diffs that ended
	prevTo string
	names  map[string]struct{}
	bytes  int // of all names
}

// start gives the rules of the next diff.
func (c *containerRules) start() (diffRules, *fault) {
	d := newDiffRules()
	d.chained, d.prevTo = true, c.prevTo
	if c.done > 0 && c.prevTo == "" {
		return d, faultf("diff %d of %d has no end snapshot, and only the last one may have none", c.done, c.count)
	}
	if c.done >= MaxDiffs {
		return d, &fault{"more than 65536 snapshots in one export", "Export the snapshots one by one with rbd export-diff"}
	}
	return d, nil
}

// addTo checks the name that a diff ends at against the ones before it.
func (c *containerRules) addTo(name string) *fault {
	if _, dup := c.names[name]; dup {
		return faultf("two diffs of the export end at snapshot %q", name)
	}
	c.bytes += len(name)
	if c.bytes > MaxNamesTotal {
		return &fault{"the snapshots' names are longer than 16 MiB together", "Export the snapshots one by one with rbd export-diff"}
	}
	if c.names == nil {
		c.names = make(map[string]struct{})
	}
	c.names[name] = struct{}{}
	return nil
}

func (c *containerRules) finish(d *diffRules) {
	c.done++
	c.prevTo = d.to
}

// clampCount keeps a count that no file can fulfil countable.
func clampCount(count uint64) int64 { return int64(min(count, math.MaxInt64)) }

// The feature bits that rbd knows. It gives a restored image those of
// settableFeatures, and drops the internal ones, which tell of the state the
// exported image was in.
const (
	settableFeatures = 0x07f // layering to journaling
	internalFeatures = 0xf80 // data-pool, operations, migrating, non-primary, dirty-cache
)

// A headerRules checks a container's header.
type headerRules struct {
	seen      [HeaderEnd + 1]bool
	order     uint64
	unit      uint64
	count     uint64
	metaTotal int64
}

// add checks one of the four numbers.
func (h *headerRules) add(kind Kind, number uint64) *fault {
	if h.seen[kind] {
		return faultf("a second %v record in the header", kind)
	}
	h.seen[kind] = true
	switch kind {
	case HeaderOrder:
		if number < MinOrder || number > MaxOrder {
			return faultf("the object order %d is outside of %d to %d", number, MinOrder, MaxOrder)
		}
		h.order = number
	case StripeUnit:
		h.unit = number
	case StripeCount:
		h.count = number
	}
	return nil
}

// metaOverhead is charged for each image-meta pair, so that many tiny ones are
// bounded too.
const metaOverhead = 128

func (h *headerRules) addMeta(length uint64) *fault {
	if length > MaxMeta {
		return faultf("an image-meta record of %d bytes, more than %d", length, MaxMeta)
	}
	h.metaTotal += int64(length) + metaOverhead
	if h.metaTotal > MaxMetaTotal {
		return faultf("the image-meta is longer than %d bytes", MaxMetaTotal)
	}
	return nil
}

// warnFeatures says which bits rbd doesn't know.
func warnFeatures(features uint64) *fault {
	unknown := features &^ (settableFeatures | internalFeatures)
	if unknown == 0 {
		return nil
	}
	f := faultf("unknown image features %#x are dropped", unknown)
	f.hint = "rbd import refuses this file, reading it is safe; a newer release of Ceph may know them"
	return f
}

// finish says what a restore with these values would stumble over. Reading
// doesn't depend on them.
func (h *headerRules) finish() *fault {
	object := uint64(1) << 22
	if h.order != 0 {
		object = 1 << h.order
	}
	var f *fault
	switch {
	case h.seen[StripeUnit] != h.seen[StripeCount]:
		f = faultf("the header has only one of stripe unit and stripe count")
	case h.seen[StripeUnit] && (h.unit == 0 || h.unit > object || object%h.unit != 0):
		f = faultf("the stripe unit %d doesn't divide the object size %d", h.unit, object)
	case h.seen[StripeCount] && h.count == 0:
		f = faultf("the stripe count is 0")
	default:
		return nil
	}
	f.hint = "rbd import refuses this file, reading it is safe"
	return f
}
