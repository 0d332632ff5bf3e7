package main

import (
	"context"
	"sync"

	"rbdbackupfs/internal/target"
)

// A recordingTarget is a target of one image, in memory, which is also that image.
type recordingTarget struct {
	exists  bool
	onWrite func(ctx context.Context) error

	mu                         sync.Mutex
	data                       []byte
	layout                     target.Layout
	snapshots                  []recordedSnapshot
	committed, aborted, closed bool
}

type recordedSnapshot struct {
	name, sum string
	protected bool
}

var (
	_ target.Target = (*recordingTarget)(nil)
	_ target.Image  = recordedImage{}
)

func (r *recordingTarget) String() string                                       { return "ceph:" }
func (r *recordingTarget) Pools(context.Context) ([]string, error)              { return []string{"rbd"}, nil }
func (r *recordingTarget) Namespaces(context.Context, string) ([]string, error) { return nil, nil }
func (r *recordingTarget) MakeFolder(context.Context, string, string) error     { return errFake }
func (r *recordingTarget) Exists(context.Context, target.Name) (bool, error)    { return r.exists, nil }
func (r *recordingTarget) Open(context.Context, *target.Job) (target.Image, error) {
	return nil, errFake
}
func (r *recordingTarget) Recover(context.Context, *target.Job) (bool, error) { return false, nil }

func (r *recordingTarget) Create(_ context.Context, _ *target.Job, size int64, layout target.Layout) (target.Image, error) {
	r.data, r.layout = make([]byte, size), layout
	return recordedImage{r}, nil
}

func (r *recordingTarget) Close() error {
	r.closed = true
	return nil
}

type recordedImage struct{ *recordingTarget }

func (r recordedImage) Size() int64 { return int64(len(r.data)) }
func (r recordedImage) Hints() target.Hints {
	return target.Hints{Chunk: 1 << 16, Parallel: 4, ZeroRun: 4096}
}

func (r recordedImage) HasSnapshot(context.Context, string) (bool, error) { return false, nil }
func (r recordedImage) SnapshotRoom(context.Context) (int, error)         { return -1, nil }
func (r recordedImage) Lock(context.Context) error                        { return nil }
func (r recordedImage) Empty(context.Context) (bool, error)               { return true, nil }
func (r recordedImage) Unchanged(context.Context, string) (bool, error)   { return true, nil }
func (r recordedImage) Guard(context.Context) error                       { return nil }
func (r recordedImage) Flush(context.Context) error                       { return nil }
func (r recordedImage) Close() error                                      { return nil }

func (r recordedImage) Resize(_ context.Context, size int64) error {
	data := make([]byte, size)
	copy(data, r.data)
	r.data = data
	return nil
}

func (r recordedImage) WriteAt(ctx context.Context, p []byte, off int64) error {
	if r.onWrite != nil {
		return r.onWrite(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.data[off:], p)
	return nil
}

func (r recordedImage) Zero(_ context.Context, off, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data[off : off+n])
	return nil
}

func (r recordedImage) Snapshot(_ context.Context, name string, protect bool) error {
	r.snapshots = append(r.snapshots, recordedSnapshot{name, sum(r.data), protect})
	return nil
}

func (r recordedImage) Commit(context.Context) error {
	r.committed = true
	return nil
}

func (r recordedImage) Abort(context.Context) error {
	r.aborted = true
	return nil
}
