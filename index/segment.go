package index

import (
	"fmt"
	"slices"
	"sort"
)

// An Extent is the half-open range [Off, Off+Len) of an image as a step
// changes it: to data, which stands at byte Pos of the step's source, or to zeros.
type Extent struct {
	Off  int64 // bytes, 0..2^63-1
	Len  int64 // bytes; Off+Len doesn't pass 2^63-1
	Data bool  // false: zeros
	Pos  int64 // byte in the source; 0 for zeros
}

// A Segment is the half-open range [Off, Off+Len) of an image at a node.
// Source 0 is a hole and reads as zeros; any other is the number of the node
// whose step holds the bytes, at Pos of its backup file.
type Segment struct {
	Off    int64
	Len    int64
	Pos    int64
	Source uint32
}

// End is the first byte after the segment.
func (s Segment) End() int64 { return s.Off + s.Len }

// Hole tells that the segment reads as zeros.
func (s Segment) Hole() bool { return s.Source == 0 }

// String gives "[off,end) hole" or "[off,end) source:pos".
func (s Segment) String() string {
	if s.Hole() {
		return fmt.Sprintf("[%d,%d) hole", s.Off, s.End())
	}
	return fmt.Sprintf("[%d,%d) %d:%d", s.Off, s.End(), s.Source, s.Pos)
}

// ParseSegment is the inverse of Segment.String.
func ParseSegment(text string) (Segment, error) {
	var s Segment
	var end int64
	if _, err := fmt.Sscanf(text, "[%d,%d) hole", &s.Off, &end); err == nil {
		s.Len = end - s.Off
		return s, nil
	}
	if _, err := fmt.Sscanf(text, "[%d,%d) %d:%d", &s.Off, &end, &s.Source, &s.Pos); err != nil {
		return Segment{}, fmt.Errorf("segment %q: %w", text, err)
	}
	s.Len = end - s.Off
	return s, nil
}

// cut returns the part of s inside [from, to), which must not be empty.
func (s Segment) cut(from, to int64) Segment {
	if from > s.Off {
		if !s.Hole() {
			s.Pos += from - s.Off
		}
		s.Len -= from - s.Off
		s.Off = from
	}
	if s.End() > to {
		s.Len = to - s.Off
	}
	return s
}

// push appends s to the sorted list, joined with its last segment where both
// are one run.
func push(list []Segment, s Segment) []Segment {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.End() == s.Off && last.Source == s.Source && (s.Hole() || last.Pos+last.Len == s.Pos) {
			last.Len += s.Len
			return list
		}
	}
	return append(list, s)
}

// overlay lays over on base: both sorted and without overlaps in themselves,
// base may have gaps. Where both say something, over wins. The result is
// appended to dst, sorted and joined.
func overlay(dst, base, over []Segment) []Segment {
	b := 0
	at := int64(-1) // base is used up to here
	for _, o := range over {
		dst, b = takeUntil(dst, base, b, at, o.Off)
		dst = push(dst, o)
		at = o.End()
	}
	dst, _ = takeUntil(dst, base, b, at, 1<<63-1)
	return dst
}

// takeUntil appends what base has in [from, to), starting at base[b], and
// returns the first base segment that reaches past to.
func takeUntil(dst, base []Segment, b int, from, to int64) ([]Segment, int) {
	for ; b < len(base) && from < to; b++ {
		s := base[b]
		if s.End() <= from {
			continue
		}
		if s.Off >= to {
			break
		}
		dst = push(dst, s.cut(from, to))
		if s.End() > to {
			break
		}
	}
	return dst, b
}

// settle turns segments in the order of a file, where the last one wins, into
// a sorted list without overlaps. Sorted input is returned as it is.
func settle(list []Segment) []Segment {
	if sorted(list) {
		return list
	}
	half := len(list) / 2
	return overlay(make([]Segment, 0, len(list)), settle(list[:half]), settle(list[half:]))
}

func sorted(list []Segment) bool {
	for i := 1; i < len(list); i++ {
		if list[i].Off < list[i-1].End() {
			return false
		}
	}
	return true
}

// within returns the part of a sorted list inside [from, to), cut to it.
// The result may share memory with list only where nothing had to be cut.
func within(list []Segment, from, to int64) []Segment {
	i := sort.Search(len(list), func(i int) bool { return list[i].End() > from })
	j := i + sort.Search(len(list)-i, func(j int) bool { return list[i+j].Off >= to })
	part := list[i:j]
	if from >= to {
		return nil
	}
	if len(part) == 0 || (part[0].Off >= from && part[len(part)-1].End() <= to) {
		return part
	}
	part = slices.Clone(part)
	part[0] = part[0].cut(from, to)
	part[len(part)-1] = part[len(part)-1].cut(from, to)
	return part
}

// allocated sums the data bytes.
func allocated(list []Segment) (n int64) {
	for _, s := range list {
		if !s.Hole() {
			n += s.Len
		}
	}
	return n
}

// covers tells whether a sorted list leaves no gap in [from, to).
func covers(list []Segment, from, to int64) bool {
	for _, s := range list {
		if s.Off > from {
			return false
		}
		from = s.End()
		if from >= to {
			return true
		}
	}
	return false
}

// dropHoles removes the holes: in a resolved list a gap says the same.
func dropHoles(list []Segment) []Segment {
	return slices.DeleteFunc(list, Segment.Hole)
}
