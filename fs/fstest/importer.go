package fstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"rbdbackupfs/fs"
	"rbdbackupfs/internal/target"
)

// An Importer is a fs.Importer that remembers what it was given.
type Importer struct {
	// Folders is what Pools, Namespaces and MakeFolder say, nil for no error. It is
	// set before the Importer is used.
	Folders error

	mu      sync.Mutex
	script  func(*Job)
	pools   map[string][]string // their namespaces
	jobs    []*Job
	live    map[target.Name]*Job
	reports []fs.JobReport
	texts   map[string]string
	started chan *Job
}

var _ fs.Importer = (*Importer)(nil)

// NewImporter returns one with the pool rbd, which has the namespace ns.
func NewImporter() *Importer {
	return &Importer{
		pools: map[string][]string{"rbd": {"ns"}}, live: map[target.Name]*Job{}, texts: map[string]string{},
		started: make(chan *Job, 1024),
	}
}

// Script has set called for each job that starts from now on, to set its fields.
func (i *Importer) Script(set func(*Job)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.script = set
}

// Started gets each job that starts.
func (i *Importer) Started() <-chan *Job { return i.started }

// Jobs are all that were started.
func (i *Importer) Jobs() []*Job {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.jobs)
}

// Last is the newest job, nil without one.
func (i *Importer) Last() *Job {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.jobs) == 0 {
		return nil
	}
	return i.jobs[len(i.jobs)-1]
}

// Open is the number of jobs that were not released.
func (i *Importer) Open() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.live)
}

// SetReport makes or changes an entry of .jobs; with an empty text it goes.
func (i *Importer) SetReport(id, text string, mtime time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reports = slices.DeleteFunc(i.reports, func(r fs.JobReport) bool { return r.ID == id })
	delete(i.texts, id)
	if text == "" {
		return
	}
	i.texts[id] = text
	i.reports = append(i.reports, fs.JobReport{ID: id, Size: int64(len(text)), ModTime: mtime})
	slices.SortFunc(i.reports, func(a, b fs.JobReport) int { return cmp.Compare(a.ID, b.ID) })
}

// Pools implements fs.Importer.
func (i *Importer) Pools(context.Context) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Sorted(maps.Keys(i.pools)), i.Folders
}

// Namespaces implements fs.Importer. The pool "hidden" is known, and not listed.
func (i *Importer) Namespaces(_ context.Context, pool string) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	namespaces, found := i.pools[pool]
	if !found && pool != "hidden" {
		return nil, &target.Error{Op: "list", Name: pool, Errno: syscall.ENOENT}
	}
	return slices.Clone(namespaces), i.Folders
}

// MakeFolder implements fs.Importer.
func (i *Importer) MakeFolder(_ context.Context, pool, namespace string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.Folders != nil {
		return i.Folders
	}
	if namespace == "" {
		i.pools[pool] = nil
		return nil
	}
	i.pools[pool] = append(i.pools[pool], namespace)
	slices.Sort(i.pools[pool])
	return nil
}

// Start implements fs.Importer.
func (i *Importer) Start(_ context.Context, name target.Name) (fs.Import, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.live[name] != nil {
		return nil, &target.Error{Op: "import", Name: name.String(), Errno: syscall.EBUSY}
	}
	job := &Job{Name: name, importer: i, Released: make(chan struct{}), Waiting: make(chan struct{}, 1024)}
	if i.script != nil {
		i.script(job)
	}
	if job.StartErr != nil {
		return nil, job.StartErr
	}
	i.jobs = append(i.jobs, job)
	i.live[name] = job
	i.started <- job
	return job, nil
}

// Reports implements fs.Importer.
func (i *Importer) Reports() []fs.JobReport {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.reports)
}

// Report implements fs.Importer.
func (i *Importer) Report(id string) ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	text, found := i.texts[id]
	return []byte(text), found
}

// A Job is one fs.Import.
type Job struct {
	Name target.Name
	// Errors, set by a Script: of Start, of a write at or past WriteErrAt, of
	// Sync, and of Flush.
	StartErr, WriteErr, SyncErr, FlushErr error
	WriteErrAt                            int64
	// Block, if set, is received from by each WriteAt, CopyFrom and Flush, which
	// say so in Waiting.
	Block   chan struct{}
	Waiting chan struct{}
	// CopyStep is the most that one CopyFrom takes, all where it is 0.
	CopyStep int64
	// Late, if set, is received from by Release.
	Late chan struct{}
	// Released is closed by Release.
	Released chan struct{}

	importer *Importer

	mu       sync.Mutex
	data     []byte
	written  int64
	largest  int
	backward bool
	next     int64
	copies   int
	syncs    int
	flushes  []bool
	sizes    []int64 // at each flush
	after    int     // calls that came after Release
	ended    bool
}

var _ fs.Import = (*Job)(nil)

// Bytes is what the file would be.
func (j *Job) Bytes() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.data)
}

// Flushes tells of each Flush whether the process was killed, and how long the
// file was then.
func (j *Job) Flushes() (killed []bool, sizes []int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.flushes), slices.Clone(j.sizes)
}

// Counts are how often CopyFrom and Sync were called, and the largest write.
func (j *Job) Counts() (copies, syncs, largest int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.copies, j.syncs, j.largest
}

// Backward tells whether a write began before the end of the one before.
func (j *Job) Backward() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.backward
}

// wait is where the target is slow.
func (j *Job) wait(ctx context.Context) error {
	if j.Block == nil {
		return nil
	}
	j.Waiting <- struct{}{}
	select {
	case <-j.Block:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WriteAt implements fs.Import.
func (j *Job) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := j.wait(ctx); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.call()
	if j.WriteErr != nil && off >= j.WriteErrAt {
		return 0, j.WriteErr
	}
	j.put(p, off)
	j.largest = max(j.largest, len(p))
	return len(p), nil
}

// put writes; j.mu is held.
func (j *Job) put(p []byte, off int64) {
	j.grow(off + int64(len(p)))
	copy(j.data[off:], p)
	j.backward = j.backward || off < j.next
	j.next = off + int64(len(p))
	j.written += int64(len(p))
}

func (j *Job) grow(size int64) {
	if n := size - int64(len(j.data)); n > 0 {
		j.data = append(j.data, make([]byte, n)...)
	}
}

// call counts those that come too late; j.mu is held.
func (j *Job) call() {
	if j.ended {
		j.after++
	}
}

// Truncate implements fs.Import.
func (j *Job) Truncate(_ context.Context, size int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.call()
	j.grow(size)
	j.data = j.data[:size]
	return nil
}

// CopyFrom implements fs.Import.
func (j *Job) CopyFrom(ctx context.Context, src fs.View, from, off, n int64) (int64, error) {
	j.mu.Lock()
	j.copies++
	j.mu.Unlock()
	if err := j.wait(ctx); err != nil {
		return 0, err
	}
	if j.CopyStep > 0 {
		n = min(n, j.CopyStep)
	}
	p := make([]byte, n)
	if _, err := src.ReadAt(ctx, p, from); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.call()
	j.put(p, off)
	return n, nil
}

// Sync implements fs.Import.
func (j *Job) Sync(context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.call()
	j.syncs++
	return j.SyncErr
}

// Flush implements fs.Import.
func (j *Job) Flush(ctx context.Context, killed bool) error {
	j.mu.Lock()
	j.call()
	j.flushes = append(j.flushes, killed)
	j.sizes = append(j.sizes, int64(len(j.data)))
	j.mu.Unlock()
	if killed {
		return nil
	}
	if err := j.wait(ctx); err != nil {
		return err
	}
	return j.FlushErr
}

// Release implements fs.Import.
func (j *Job) Release() {
	if j.Late != nil {
		<-j.Late
	}
	j.mu.Lock()
	j.call()
	j.ended = true
	j.mu.Unlock()
	j.importer.mu.Lock()
	delete(j.importer.live, j.Name)
	j.importer.mu.Unlock()
	close(j.Released)
}

// Length implements fs.Import.
func (j *Job) Length() (size, written int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(len(j.data)), j.written
}

// left says what must not be so when the mount is gone.
func (i *Importer) left() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, job := range i.jobs {
		job.mu.Lock()
		if !job.ended || job.after > 0 {
			errs = append(errs, fmt.Errorf("job %s: released %t, %d calls after that", job.Name, job.ended, job.after))
		}
		job.mu.Unlock()
	}
	return errors.Join(errs...)
}
