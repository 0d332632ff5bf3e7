package fs

import (
	"cmp"
	"slices"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/treename"
)

// indexAbove is the number of snapshots from which sorting them pays.
const indexAbove = 32

// A snapshotIndex finds the snapshots of one state of an image by file name. It
// holds no names: 100,000 of them would be more than all the rest.
type snapshotIndex struct {
	image  *chain.Image
	sorted []*chain.Snapshot // by name and file, nil for a few
}

func newSnapshotIndex(image *chain.Image) *snapshotIndex {
	x := &snapshotIndex{image: image}
	if len(image.Snapshots) > indexAbove {
		x.sorted = slices.Clone(image.Snapshots)
		slices.SortFunc(x.sorted, func(a, b *chain.Snapshot) int { return compareLabel(a, b.Name, b.Of) })
	}
	return x
}

func compareLabel(snap *chain.Snapshot, name, of string) int {
	return cmp.Or(cmp.Compare(snap.Name, name), cmp.Compare(snap.Of, of))
}

// find returns the snapshot with this file name, or nil.
func (x *snapshotIndex) find(file string) *chain.Snapshot {
	if x.sorted == nil || treename.IsCut(file) {
		return x.search(file)
	}
	name, of, ok := treename.DecodeImageFile(file)
	if !ok {
		return nil
	}
	i, found := slices.BinarySearchFunc(x.sorted, of, func(snap *chain.Snapshot, of string) int {
		return compareLabel(snap, name, of)
	})
	if !found {
		return nil
	}
	return x.sorted[i]
}

// search compares one after the other, as names that end in a hash need.
func (x *snapshotIndex) search(file string) *chain.Snapshot {
	for _, snap := range x.image.Snapshots {
		if treename.ImageFile(snap.Name, snap.Of) == file {
			return snap
		}
	}
	return nil
}
