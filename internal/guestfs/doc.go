// Package guestfs reads the file system that lies in a disk image: ext2, ext3,
// ext4 and FAT, read-only, without mounting anything.
//
//	Open ──▶ FileSystem ──▶ Lookup ──▶ File ──▶ Entries, ReadAt, Data, Target
//	           │
//	           ├─ extVolume   superblock, inodes, extents or block maps, folders
//	           │     └─ overlay   what the journal has newer
//	           └─ fatVolume   clusters, folders with long names
//
// What it reads is untrusted: the bytes of a disk that somebody else wrote, or
// that was cut off. So nothing is believed before it is checked against the size
// of the file system, every loop is bounded by what can exist at most, and a panic
// ends as an error of the call that it happened in. Checksums of ext4 metadata are
// compared. What it doesn't know is refused: a byte that is handed out is the one
// that the guest wrote.
//
// The journal of ext3 and ext4 is replayed in memory, as Linux does when it mounts.
// Where that can't be done, the file system is read as it lies there, and
// FileSystem.Dirty says so. It reads no extended attributes, and nothing of encrypted
// files and folders.
//
// Formats: https://docs.kernel.org/filesystems/ext4/, and for FAT Microsoft's
// "FAT32 File System Specification", version 1.03. All ranges are half-open and in
// bytes.
package guestfs
