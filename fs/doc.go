// Package fs shows a backup repository as a FUSE file system, and holds what
// mounting and unmounting one takes. It is the only package that imports go-fuse.
//
//	MOUNT/
//	  images/                      topNode: the images, as folders
//	    rbd/                       folderNode: one component of image names
//	      vm1/                     folderNode: an image, perhaps also a parent of images
//	        v1.img                 imageNode: the bytes of one snapshot
//	        v1.p1.img              partNode: a partition of it
//	        latest.img -> v1.img   latestNode: the tip of the chain
//	  scratch/                     folderNode: the same once more
//	    rbd/vm1/v1.img             scratchNode: the bytes of one snapshot, and what was written over them
//	  import/                      importFolder: the pools, where there is an Importer
//	    rbd/                       importFolder: a pool, its namespaces and running jobs
//	      ns/                      importFolder: a namespace, its running jobs
//	      vm2                      importFile: an image while it is written
//	    .jobs/                     jobsFolder: what became of the imports
//	      <id>.json                jobNode: one of them, made anew at each open
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
// kind says what the entry is (ino.go); bit 63 is clear, go-fuse's automatic
// numbers have it set. serial is a counter for folders and for what is in import/,
// where each job has a file of its own, and the snapshot's Generation for everything that depends on a snapshot's bytes: the kernel keeps pages by
// inode, so a snapshot whose bytes change is a new inode. part is 0 for a whole
// image and N for its partition N; of folders it is the wing: images/ or scratch/.
// A scratch file has the Generation as well, and a number from the other half of the
// serials once its changes were dropped, since the kernel has pages with them.
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
// In import/ nothing is kept: each lookup and each stat comes here, and writes go
// round the page cache, so that they come in order and one by one.
//
// # Import
//
// A file in import/ is there while it is written, and for its writer a few seconds
// longer (imports.go): an image that exists is no file, so that cp, and programs
// that insist on a new file, can restore onto it, and rm reaches none. The kernel
// tells of closes, not of the last one; process.go asks /proc whether the process
// that closes was killed, and whether one that was interrupted lives on
// (patience.go).
//
// # Waiting
//
// A lookup in an image whose chain isn't known waits for it, at most
// Options.LookupWait, and then gives EAGAIN. Each request has its own goroutine
// and the kernel looks up in parallel, so nothing else waits. An interrupted
// wait gives EINTR. Reads are not interrupted, as on a disk: a reader with a
// timer or a profiler would see errors that aren't there. What waits for an
// Importer ends when its caller is killed, and not before.
//
// # What it is not
//
// It doesn't know backup files, indexes, formats or targets: a Library tells it
// what there is, a View gives bytes, and an Importer takes them.
package fs
