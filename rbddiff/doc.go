// Package rbddiff reads and writes the files that `rbd export-diff` and
// `rbd export --export-format 2` make.
//
// All integers are little-endian, nothing is padded. Ranges are half-open:
// an extent off~len covers [off, off+len).
//
//	rbd diff v1 (export-diff, merge-diff)     rbd export format 2 (the container)
//
//	"rbd diff v1\n"                           "rbd image v2\n"
//	['f' le32 n, n bytes]    from snapshot    'O' le64 8, le64 order
//	['t' le32 n, n bytes]    to snapshot      'T' le64 8, le64 features
//	 's' le64                image size       'U' le64 8, le64 stripe unit
//	{'w' le64 off, le64 len, len bytes}       'C' le64 8, le64 stripe count
//	{'z' le64 off, le64 len}                  {'M' le64 n, le32 k, key, le32 v, value}
//	 'e'                                      'E'
//	                                          "rbd image diffs v2\n" le64 count
//	                                          count times:
//	                                            "rbd diff v2\n"
//	                                            the records of v1, each but 'e' with its
//	                                            length (le64) between the tag and the rest;
//	                                            't' is followed by 'p' le64 8, u8 flag
//	                                            'e'
//
// A diff without 'f' starts from an empty image; one without 't' ends at the
// image's head, which has no name. Diff i of a container leads from snapshot
// i-1 to snapshot i, the last one to the head.
//
// Applying a diff: take the bytes at the start, let the size cut or extend
// them with zeros, then apply data and zero records in file order; where they
// overlap the last one wins. Neither a shrink nor a growth writes 'z' records.
//
// Two oddities of real files:
//
//   - 'p' says that its payload is 8 bytes long, and it is 1 byte long (Ceph
//     16.2.15; later releases say 1). [Reader] accepts both, [Writer] writes 1.
//   - The banner "rbd image diffs v2\n" and the 'M' and 'p' records are in no
//     document, and the 'F' record that is documented is never written.
//
// What the formats don't carry: an image's name, pool or id, a time, a
// checksum, a total length. A file is known to be whole only by its end
// record, so [Reader] returns io.EOF after that and [ErrIncomplete] in every
// other case.
//
// # What this package does
//
// [Reader] is one pull-style event stream over both formats, in bounded
// memory; data is passed on or skipped, never kept. Where the source can
// seek, data is skipped without being read. [Scan] walks a whole file and
// says what is in it. [Writer] is the inverse of [Reader]. [Detect] tells
// formats apart by their first bytes.
//
// What can be judged by looking at one file is judged here: a record that rbd
// would never write is [ErrCorrupt], even where `rbd import-diff` accepts it
// and does something surprising (clips an extent, counts an unknown record as
// empty, takes the last of two names). What needs a second file or a cluster
// is the caller's: whether the start snapshot exists, whether extents of a
// diff that states no size fit the image.
//
// It isn't a reader of raw exports, which have no structure, and it knows
// neither names of files nor how diffs make up an image.
//
// The source of the formats is doc/dev/rbd-diff.rst and doc/dev/rbd-export.rst
// of Ceph, corrected by what rbd 16.2.15 was seen to write and to accept.
package rbddiff
