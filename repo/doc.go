// Package repo knows where backup files lie: a tree of folders that other
// programs write to while it is being read.
//
//	          folder tree                            descriptors
//	scanner ──────────────▶ tree ──▶ settler        ┌──────────────┐
//	 (workers read          what      two looks     │ cache (LRU)  │◀── Handle.ReadAt
//	  one folder each)      is known  agree         └──────────────┘
//	    ▲                    │           │                 ▲
//	inotify, rescan          └─ Watch ───┴─▶ emit          └── OpenFile(path, pin)
//
// A file's contents are identified by a Pin. A file counts as Settled once two
// looks, half a second to a second apart, saw the same pin, no process of this
// machine has it open for writing (as far as the kernel can tell), and it could
// be opened. Until then it is Unsettled, which is "being written" in words.
//
// Nothing outside the tree is ever opened, and no symbolic link is ever
// followed: paths are walked one component at a time with O_NOFOLLOW. os.Root
// is not used because it follows links that stay inside the tree. Only regular
// files are opened; the repository is never written to.
//
// The package doesn't know what is in the files, and it doesn't index anything.
package repo
