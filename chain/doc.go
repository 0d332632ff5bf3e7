// Package chain is the domain: images, snapshots, how backup files link, and a
// View, the bytes of an image at one snapshot.
//
//	repo.Watch ──▶ scan: headers ──▶ place: which ──▶ plan: a tree of ──▶ build: extents ──▶ Image
//	 (what lies    (fileInfo, kept   image each is    cheapest paths     into the index     served
//	  there)        as a note)       of (layout)      from nothing)      (node by node)
//
//	View.ReadAt ──▶ index: [off,len) is bytes p.. of node n ──▶ source of n ──▶ repo.Handle
//
// A step is one diff of a file and leads from a snapshot, or from nothing, to
// another. Links hold by snapshot name, since the formats carry nothing else.
// Of several ways to a snapshot the plan takes the one with the fewest steps,
// then the fewest bytes. Files of one kind that claim the same step are
// compared as images; while they aren't known to agree, nothing is built on
// them. What can't be served is a Problem with its cure.
//
// Each image is planned and published as a whole: an Image is immutable, and a
// change in the repository makes a new one.
//
// The package knows nothing of FUSE or of Ceph, and it writes nothing but the
// index.
package chain
