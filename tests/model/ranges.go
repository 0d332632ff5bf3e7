package model

import (
	"cmp"
	"slices"
)

// A Range is [Start, End), bytes.
type Range struct{ Start, End int64 }

// cut returns ranges without r. The ranges are sorted and don't touch; so are
// the results.
func cut(ranges []Range, r Range) []Range {
	var out []Range
	for _, old := range ranges {
		if before := (Range{old.Start, min(old.End, r.Start)}); before.Start < before.End {
			out = append(out, before)
		}
		if after := (Range{max(old.Start, r.End), old.End}); after.Start < after.End {
			out = append(out, after)
		}
	}
	return out
}

// add returns ranges with r, joined where they touch.
func add(ranges []Range, r Range) []Range {
	if r.Start >= r.End {
		return ranges
	}
	all := append(cut(ranges, r), r)
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	out := all[:1]
	for _, next := range all[1:] {
		if last := &out[len(out)-1]; last.End == next.Start {
			last.End = next.End
		} else {
			out = append(out, next)
		}
	}
	return out
}

// Sum is the length of all ranges together, bytes.
func Sum(ranges []Range) int64 {
	var n int64
	for _, r := range ranges {
		n += r.End - r.Start
	}
	return n
}
