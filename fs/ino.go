package fs

// The layout of inode numbers; doc.go draws it.
const (
	inoPartBits   = 8
	inoSerialBits = 48
	inoMaxSerial  = 1<<inoSerialBits - 1
)

// An inoKind is the top byte of an inode number. Numbers of kinds are never
// given to anything else.
type inoKind uint64

const (
	inoRoot         inoKind = 1 + iota // the root and its fixed entries, serial below
	inoFolder                          // a folder of images/ or scratch/, serial counts up, part is the wing
	inoImage                           // a snapshot's image, serial is its generation
	inoLatest                          // latest.img, serial is the generation it points to, part is the wing
	inoImportFolder                    // a pool or namespace of import/, serial counts up
	inoImportFile                      // a file written in import/, serial counts the jobs
	inoJob                             // import/.jobs/<id>.json, serial counts up
	inoScratch                         // a scratch file, serial is the generation, or counts what was dropped
)

// Serials of inoRoot.
const (
	serialRoot = 1 + iota
	serialImages
	serialStatus
	serialImport
	serialJobs
	serialScratch
)

// makeIno puts an inode number together.
func makeIno(kind inoKind, serial uint64, part uint8) uint64 {
	return uint64(kind)<<(inoSerialBits+inoPartBits) | (serial&inoMaxSerial)<<inoPartBits | uint64(part)
}
