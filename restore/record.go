package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"rbdbackupfs/internal/target"
)

// A State says how far a restore has got.
type State string

// The states of a restore.
const (
	StateRunning   State = "running"   // bytes are being written
	StateFinishing State = "finishing" // all is applied, and being made durable
	StateUndoing   State = "undoing"   // it failed, and the image becomes what it was
	StateDone      State = "done"      // the image is restored
	StateFailed    State = "failed"    // it failed, and the image is what it was
	StateBroken    State = "broken"    // it failed, and what it left has to be recovered
)

// Ended tells that a restore in this state does nothing any more.
func (s State) Ended() bool { return s == StateDone || s == StateFailed || s == StateBroken }

// The kinds of what is restored.
const (
	KindRaw      = "raw"             // an image's bytes
	KindDiff     = "diff"            // one rbd diff v1
	KindExport   = "export format 2" // an image with its snapshots
	KindSnapshot = "snapshot"        // a snapshot of the repository, by the restore command
)

// A Report is what a restore does, or how it ended: import/.jobs/<id>.json, and
// "rbdbackupfs jobs --json".
type Report struct {
	ID       string    `json:"id"`
	Target   string    `json:"target"`   // ceph:, file:DIR
	Image    string    `json:"image"`    // pool/[namespace/]image
	Kind     string    `json:"kind"`     // empty until the first bytes have come
	New      bool      `json:"new"`      // the image didn't exist before
	State    State     `json:"state"`    //
	From     string    `json:"from"`     // the snapshot that a diff starts from
	To       string    `json:"to"`       // the last snapshot made
	Size     int64     `json:"size"`     // of the image, bytes
	Total    int64     `json:"total"`    // bytes to come, 0 where that isn't known
	Received int64     `json:"received"` // bytes of the file so far
	Data     int64     `json:"data"`     // bytes written to the image
	Zeros    int64     `json:"zeros"`    // bytes of zeros that were found or stated
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Error    string    `json:"error,omitempty"` // with the cure
	Errno    int       `json:"errno,omitempty"`
	PID      int       `json:"pid"` // of the process that restores
}

// A record keeps the report of one restore, and its place in the journal.
type record struct {
	now func() time.Time

	mu      sync.Mutex
	report  Report
	job     target.Job
	entry   *entry // nil until there is something to undo
	tally   tally
	changed time.Time
}

func newRecord(report Report, job target.Job, now func() time.Time) *record {
	return &record{now: now, report: report, job: job, changed: report.Started}
}

func (r *record) id() string { return r.job.ID }

// target is what the target of the restore is given, and may keep: only the
// restore's own goroutine changes it.
func (r *record) target() *target.Job { return &r.job }

func (r *record) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.State.Ended()
}

func (r *record) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.State
}

// received says how far into the file the writer has come.
func (r *record) received(end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Received = max(r.report.Received, end)
	r.changed = r.now()
}

// length is the file's, for stat.
func (r *record) length() (size, written int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report.Kind == KindRaw {
		return max(r.report.Received, r.report.Size), r.tally.data.Load()
	}
	return r.report.Received, r.report.Received
}

// update changes the report.
func (r *record) update(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
	r.changed = r.now()
}

// Report is a copy of the report as it is now.
func (r *record) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshot()
}

func (r *record) snapshot() Report {
	report := r.report
	report.Data, report.Zeros = r.tally.data.Load(), r.tally.zeros.Load()
	return report
}

// text is the report as JSON, and when it changed last.
func (r *record) text() ([]byte, time.Time) {
	r.mu.Lock()
	report, changed := r.snapshot(), r.changed
	r.mu.Unlock()
	return encodeReport(report), changed
}

func encodeReport(report Report) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	// A report has nothing in it that can't be encoded.
	if err := encoder.Encode(report); err != nil {
		return nil
	}
	return b.Bytes()
}

// updating says that the restore changes an image that exists; names are empty
// where there is none.
func (r *record) updating(from, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job.Update = true
	r.job.From, r.job.To = nil, nil
	if from != "" {
		r.job.From = []byte(from)
	}
	if to != "" {
		r.job.To = [][]byte{[]byte(to)}
	}
}

// makes tells whether the journal has it that the restore makes a snapshot.
func (r *record) makes(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.job.To, func(to []byte) bool { return string(to) == name })
}

// guard makes durable what undoing the restore takes, before its target acts.
func (r *record) guard(j Journal, change func(*target.Job)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.job)
	return r.store(j)
}

// store writes the journal entry, with mu held.
func (r *record) store(j Journal) (err error) {
	if r.entry == nil {
		if r.entry, err = j.create(r.job.ID); err != nil {
			return err
		}
	}
	return r.entry.put(r.snapshot(), r.job)
}

// complete says that all is applied.
func (r *record) complete(j Journal) error {
	return r.guard(j, func(job *target.Job) { job.Complete = true })
}

// failing says why the restore is being undone.
func (r *record) failing(err error) {
	r.update(func(report *Report) {
		report.State = StateUndoing
		report.Error = err.Error()
		report.Errno = int(target.ErrnoOf(err))
	})
}

// fail ends the restore, undone or not.
func (r *record) fail(err error, undone bool) {
	r.end(func(report *Report) {
		report.State = StateFailed
		if !undone {
			report.State = StateBroken
		}
		report.Error = err.Error()
		report.Errno = int(target.ErrnoOf(err))
	})
}

// restored ends the restore well.
func (r *record) restored() { r.end(func(report *Report) { report.State = StateDone }) }

// recovered takes over what a recovery has made of a restore that was broken.
func (r *record) recovered(now Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report.State == StateBroken {
		r.report.State, r.report.Error, r.report.Errno = now.State, now.Error, now.Errno
		r.changed = r.now()
	}
}

// reopen says that a restored raw image is being written to again.
func (r *record) reopen() {
	r.update(func(report *Report) { report.State, report.Ended = StateRunning, time.Time{} })
}

// end is the last change of the report. The journal's entry only has to tell
// later readers how it went: nothing is lost where it can't be written.
func (r *record) end(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
	r.report.Ended = r.now()
	r.changed = r.report.Ended
	if r.entry != nil {
		_ = r.entry.put(r.snapshot(), r.job)
	}
}

// close lets go of the journal's entry.
func (r *record) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entry == nil {
		return nil
	}
	err := r.entry.close()
	r.entry = nil
	return err
}

var errJournal = errors.New("the journal of restores can't be written, without which a crash could not be undone")
