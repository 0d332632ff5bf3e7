// Package fs shows a backup repository as a FUSE file system, and holds what
// mounting and unmounting one takes. It is the only package that imports go-fuse.
//
//	MOUNT/
//	  images/                      topNode: the images, as folders
//	    rbd/                       folderNode: one component of image names
//	      vm1/                     folderNode: an image, perhaps also a parent of images
//	        v1.img                 imageNode: the bytes of one snapshot
//	        latest.img -> v1.img   latestNode: the tip of the chain
//	  status.json                  statusNode: made anew at each open
//
// # Inode numbers
//
// Numbers are arithmetic, and never used for anything else while mounted:
//
//	63      56 55                                              8 7        0
//	+---------+-------------------------------------------------+----------+
//	|  kind   |                      serial                     |   part   |
//	+---------+-------------------------------------------------+----------+
//
// kind says what the entry is; bit 63 is clear, go-fuse's automatic numbers
// have it set. serial is a counter for folders, and the snapshot's Generation
// for everything that depends on a snapshot's bytes: the kernel keeps pages by
// inode, so a snapshot whose bytes change is a new inode. part is 0 for a whole
// image and N for its partition N.
//
// # Caching
//
// A snapshot never changes, so the kernel keeps its pages (FOPEN_KEEP_CACHE) and,
// for timeoutLong, its entries and attributes. What changes is invalidated when
// the library says so. Names that don't exist are not cached.
//
// A notification waits in the kernel for the folder's lock, which every lookup
// in that folder holds until it is answered. So no notification is ever sent
// from a request or from the library's callback: each folder has its own
// goroutine while there is something to tell (notify.go). A lookup answered
// from old state still holds that lock, so it is always invalidated afterwards.
//
// # Waiting
//
// A lookup in an image whose chain isn't known waits for it, at most
// Options.LookupWait, and then gives EAGAIN. Each request has its own goroutine
// and the kernel looks up in parallel, so nothing else waits. An interrupted
// wait gives EINTR. Reads are not interrupted, as on a disk: a reader with a
// timer or a profiler would see errors that aren't there.
//
// # What it is not
//
// It doesn't know backup files, indexes or formats: a Library tells it what
// there is and a View gives bytes.
package fs
