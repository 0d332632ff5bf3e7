package fs

import (
	"context"
	"time"

	"rbdbackupfs/internal/target"
)

// An Importer takes what is written into import/. All methods may be called at
// the same time. Their errors tell the errno by target.ErrnoOf, and are logged
// by the Importer, not here.
type Importer interface {
	// Pools are the folders of import/, sorted.
	Pools(ctx context.Context) ([]string, error)
	// Namespaces are the folders of a pool, sorted. ENOENT: no such pool. A pool
	// may be known though Pools doesn't list it.
	Namespaces(ctx context.Context, pool string) ([]string, error)
	// MakeFolder makes a pool, or a namespace where that isn't empty.
	MakeFolder(ctx context.Context, pool, namespace string) error
	// Start begins to restore an image: somebody opened its file for writing. It
	// waits for a job of the same image that is finishing. Errors: EBUSY while
	// another one is being written, EINVAL for a name that is no image's, EINTR
	// when ctx ended.
	Start(ctx context.Context, name target.Name) (Import, error)
	// Reports are those of all jobs, running and ended, sorted by ID.
	Reports() []JobReport
	// Report is the text of one.
	Report(id string) (text []byte, found bool)
}

// A JobReport is an entry of import/.jobs.
type JobReport struct {
	ID      string // its file is ID.json
	Size    int64  // of the text, bytes
	ModTime time.Time
}

// An Import is one file in import/ that is open for writing. The calls may come
// at the same time; the kernel sends writes of one file one after the other.
type Import interface {
	// WriteAt takes bytes. Where ctx ends first it returns how many it took
	// before, with an error only if that is none. It doesn't keep p.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// Truncate sets the length: 0 before the first byte does nothing.
	Truncate(ctx context.Context, size int64) error
	// CopyFrom takes [from, from+n) of src, whose bytes are to stand at off. It
	// returns early, with what was taken, when ctx ends.
	CopyFrom(ctx context.Context, src View, from, off, n int64) (int64, error)
	// Sync returns when all that was written is durable.
	Sync(ctx context.Context) error
	// Flush comes with each close of a descriptor, and commits what is whole.
	// killed says that the process that closes was ended by a signal: then it
	// commits nothing.
	Flush(ctx context.Context, killed bool) error
	// Release comes once, after the last close. What isn't committed is undone in
	// the background.
	Release()
	// Length is the length of the file so far, and how much of it was written.
	Length() (size, written int64)
}
