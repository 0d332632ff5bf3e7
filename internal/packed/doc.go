// Package packed gives the content of compressed files at any offset.
//
//	Scan ── unpacks a file once, in order ──▶ Map   where it can be begun again, checksums, holes
//	                                           │
//	Cache.ReadAt(file, Map, offset) ◀──────────┘
//	   chunks of 1 MiB:  in memory?  in the store?  else unpacked from the nearest place before it
//
// A codec cuts a file into segments: members of gzip, frames of zstd, blocks of
// LZ4, xz and bzip2, each of which can be unpacked without what stands before it.
// Where a file has such places every few MiB, a read begins at the one before.
// Where it has not, as in what `gzip` and `zstd` write by themselves, chunks that
// lie far behind the last place go into the store when they are unpacked: files of
// bounded size in a folder, each chunk compressed by itself. So do all chunks of xz and
// bzip2, which are slow. The store is a cache; without it, or with one that is too
// small, reads are right and slow.
//
// Every chunk that is handed out was compared with the checksum of the Map, since
// most formats check only all of a file at its end.
package packed
