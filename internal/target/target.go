package target

import "context"

// A Target is where images are restored to. Its methods may be called at the
// same time.
type Target interface {
	// String is the target as the user named it: "ceph:", "file:/srv/images".
	String() string
	// Pools are the names of the pools that images can be restored to, sorted.
	Pools(ctx context.Context) ([]string, error)
	// Namespaces are those of a pool, sorted, without the default one. Errors:
	// ENOENT when there is no such pool.
	Namespaces(ctx context.Context, pool string) ([]string, error)
	// MakeFolder makes a pool, or a namespace where that isn't empty. Errors:
	// EEXIST, EPERM where that is no job of a restore.
	MakeFolder(ctx context.Context, pool, namespace string) error
	// Exists tells whether there is an image of that name. Errors: ENOENT when
	// there is no such pool or namespace.
	Exists(ctx context.Context, name Name) (bool, error)
	// Create makes a new image under a temporary name that follows from job.ID.
	// Errors: ENOENT (no such pool or namespace), EINVAL or ENOSYS (the layout is
	// refused); nothing is left then.
	Create(ctx context.Context, job *Job, size int64, layout Layout) (Image, error)
	// Open gives an image that exists, to look at it; Lock and Guard come before
	// the first change. Errors: ENOENT.
	Open(ctx context.Context, job *Job) (Image, error)
	// Recover ends a job whose process was killed: it commits one that is Complete
	// and undoes any other. It may be called again after an error, and for a job
	// that had already ended, or not yet begun. It waits for what the dead process
	// may still hold in the cluster. It reports whether the image is restored.
	Recover(ctx context.Context, job *Job) (restored bool, err error)
	// Close gives back what the target holds. All images must be closed.
	Close() error
}

// An Image is one image that is being restored. WriteAt and Zero may be called at
// the same time, for ranges that don't overlap; everything else one at a time.
type Image interface {
	// Size is the size now, bytes.
	Size() int64
	// Hints say how this image is written fastest.
	Hints() Hints

	// HasSnapshot tells whether the image has a snapshot of that name.
	HasSnapshot(ctx context.Context, name string) (bool, error)
	// SnapshotRoom is how many more snapshots a quota allows; below 0 is no limit.
	SnapshotRoom(ctx context.Context) (int, error)
	// Lock opens an image that Open gave for writing, and keeps others from doing
	// the same. Errors: EBUSY when somebody uses it.
	Lock(ctx context.Context) error
	// Empty tells whether the image has neither data nor snapshots. Needs Lock.
	Empty(ctx context.Context) (bool, error)
	// Unchanged tells whether the image still is what it was at that snapshot,
	// bytes and size. Needs Lock.
	Unchanged(ctx context.Context, snapshot string) (bool, error)
	// Guard makes Abort and Recover able to bring back what the image is now. It
	// makes sure that there is room for the job's snapshots. Needs Lock. After it the image can be changed.
	Guard(ctx context.Context) error

	// Resize cuts or extends; what is new reads as zeros. Errors: EINVAL when the
	// image can't have that size.
	Resize(ctx context.Context, size int64) error
	// WriteAt writes all of p at off, within Size.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Zero makes [off, off+n), within Size, read as zeros and frees what it can.
	Zero(ctx context.Context, off, n int64) error
	// Snapshot takes a snapshot of what was written so far, which is flushed
	// first. Errors: EEXIST, EDQUOT; ENOSYS when it can't be protected.
	Snapshot(ctx context.Context, name string, protect bool) error
	// Flush makes durable what was written.
	Flush(ctx context.Context) error

	// Commit makes the image durable and gives it its name, or lets go of the
	// guard. The caller has flushed before it stored that the job is Complete. The image can be written to afterwards; later calls only flush.
	// Errors: EEXIST when an image of that name came up meanwhile.
	Commit(ctx context.Context) error
	// Abort undoes everything up to Create or Guard, and closes. It is not called
	// after Commit. After an error, Recover has to do it.
	Abort(ctx context.Context) error
	// Close ends the use of the image, and undoes nothing.
	Close() error
}

// Hints say how an image is written fastest.
type Hints struct {
	// Chunk is what a write should not cross a multiple of, bytes: an object.
	Chunk int64
	// Parallel is how many writes should be under way at once.
	Parallel int
	// ZeroRun is the shortest run of zeros, bytes, that is worth a Zero of its own.
	ZeroRun int64
}

// A Layout is how a new image is to look. Zero values are the target's defaults.
// A target without such things ignores them.
type Layout struct {
	// Order: objects are 1<<Order bytes, 12 to 25.
	Order int
	// Features are names of rbd features; nil for the default.
	Features []string
	// FeatureBits are those of an export; they count when Features is nil and
	// HasFeatureBits is set. Internal ones are dropped; unknown ones are ENOSYS.
	FeatureBits    uint64
	HasFeatureBits bool
	// StripeUnit is in bytes, StripeCount in objects.
	StripeUnit, StripeCount uint64
	// DataPool is the pool for the data, empty for the image's own.
	DataPool string
	// Meta is image-meta. A key that begins with conf_ is a setting, which is
	// checked: EINVAL.
	Meta map[string]string
}

// A Job is what a target has to know to undo a restore, or to end it, after a
// crash. It is kept as JSON; the caller stores it before the target acts on it. A
// target keeps the pointer: To may grow, before the Snapshot that it is about.
type Job struct {
	// ID is 16 hexadecimal digits, used once.
	ID string `json:"id"`
	// Image is the name that the image is to have, or has.
	Image Name `json:"image"`
	// Update says that the image existed before.
	Update bool `json:"update"`
	// From is the snapshot that the change starts from, To those that it makes.
	// Names are any bytes, which JSON keeps as base64.
	From []byte   `json:"from,omitempty"`
	To   [][]byte `json:"to,omitempty"`
	// Complete says that all of it was applied: what is left is Commit.
	Complete bool `json:"complete"`
}
