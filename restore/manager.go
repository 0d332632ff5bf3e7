package restore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"rbdbackupfs/internal/target"
)

const (
	// undoPatience bounds what undoing a restore may take.
	undoPatience = 10 * time.Minute
	// closePatience is how long a writer that has closed its file may take with
	// the last call, before another one is told that the image is busy.
	closePatience = 10 * time.Second
)

// Options say how to restore.
type Options struct {
	// Target is where images go; the caller closes it after the Manager.
	Target target.Target
	// Journal is kept beside the index.
	Journal Journal
	// Features are names of rbd features for new images, over those of an export.
	// Nil: an export's own, else the target's default.
	Features []string
	// Force has diffs applied to images that aren't what the diff starts from.
	Force bool
	// Folder is what a user sees as the folder of imports, for messages.
	Folder string
	// Buffers bound the memory; nil: DefaultBuffers of them.
	Buffers *Buffers
	// Logger gets what was restored and what failed; nil: nobody.
	Logger *slog.Logger
	// Now is for tests; nil: the system's clock.
	Now func() time.Time
}

// A Manager runs restores into one target.
type Manager struct {
	target   target.Target
	journal  Journal
	features []string
	force    bool
	folder   string
	buffers  *Buffers
	log      *slog.Logger
	now      func() time.Time

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	running map[target.Name]*Job
	reports []*record // of this process, oldest first
	past    []past    // of earlier ones, oldest first
	// left has the images of restores that are still to be undone, or ended.
	left map[target.Name]bool
	// held has those of which nothing may be undone until the channel is closed:
	// somebody is at that, or what was given up still goes on.
	held  map[target.Name]chan struct{}
	pause time.Duration // between the first two tries
}

// New returns a Manager, which has read the journal. Close ends it. An error says
// that the journal can't be read.
func New(o Options) (*Manager, error) {
	m := &Manager{
		target: o.Target, journal: o.Journal, features: o.Features, force: o.Force, folder: o.Folder,
		buffers: o.Buffers, log: o.Logger, now: o.Now,
		running: map[target.Name]*Job{}, held: map[target.Name]chan struct{}{}, left: map[target.Name]bool{},
		pause: firstPause,
	}
	if m.buffers == nil {
		m.buffers = NewBuffers(DefaultBuffers)
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	var err error
	if m.past, err = m.journal.list(); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends what is running, undoes what isn't committed, and waits for that.
func (m *Manager) Close() {
	m.stop()
	m.wg.Wait()
}

// path is what a user writes an image to.
func (m *Manager) path(name target.Name) string {
	return cmp.Or(m.folder, "import") + "/" + name.String()
}

// Start begins to restore an image by writing, and returns at once: what is still
// being done about the image, such as undoing an earlier restore, the first write
// waits for. Errors: EBUSY while it is being written, EINVAL for a bad name.
func (m *Manager) Start(_ context.Context, name target.Name) (*Job, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	other := m.running[name]
	if other != nil && other.record.state() == StateRunning {
		return nil, busy(name)
	}
	j := m.newJob(m.ctx, name)
	j.before = other
	m.running[name] = j
	m.wg.Go(j.run)
	return j, nil
}

func busy(name target.Name) error {
	return refuse(name, syscall.EBUSY, "Wait for that to end; rbdbackupfs jobs shows it", "the image is being written already")
}

// newJob makes a job; m.mu is held.
func (m *Manager) newJob(ctx context.Context, name target.Name) *Job {
	report := Report{
		ID: newID(), Target: m.target.String(), Image: name.String(), State: StateRunning, Started: m.now(), PID: os.Getpid(),
	}
	j := &Job{m: m, name: name, feed: newFeed(), ctx: ctx, log: m.log, done: make(chan struct{})}
	j.record = newRecord(report, target.Job{ID: report.ID, Image: name}, m.now)
	m.reports = append(m.reports, j.record)
	return j
}

// newID is 16 hexadecimal digits that sort by nothing.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ended takes a job out of those that run. One that never had a byte is
// forgotten.
func (m *Manager) ended(j *Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[j.name] == j {
		delete(m.running, j.name)
	}
	if j.record.state() == StateBroken && !m.left[j.name] {
		m.left[j.name] = true
		m.wg.Go(func() { m.retry(j.name, m.pause) })
	}
	if !j.record.ended() {
		m.reports = slices.DeleteFunc(m.reports, func(r *record) bool { return r == j.record })
	}
	if err := j.record.close(); err != nil {
		m.log.Warn("closing the journal", slog.Any("error", err))
	}
	for over := len(m.reports) - keptEntries; over > 0 && m.reports[0].ended(); over-- {
		m.reports = m.reports[1:]
	}
}

// Refresh reads the journal again: other processes restore and recover as well.
func (m *Manager) Refresh() error {
	all, err := m.journal.list()
	m.mu.Lock()
	defer m.mu.Unlock()
	own := make(map[string]*record, len(m.reports))
	for _, r := range m.reports {
		own[r.id()] = r
	}
	m.past = slices.DeleteFunc(all, func(p past) bool {
		r := own[p.Report.ID]
		if r != nil && p.over() {
			r.recovered(p.Report)
		}
		return r != nil
	})
	return err
}

// Reports are those of all restores that are known: running ones, and the last
// ones that have ended, oldest first.
func (m *Manager) Reports() []Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Report, 0, len(m.past)+len(m.reports))
	for _, p := range m.past {
		list = append(list, p.shown())
	}
	for _, r := range m.reports {
		list = append(list, r.Report())
	}
	return list
}

// A Text is a report as it stands in its file.
type Text struct {
	ID      string
	Bytes   []byte // JSON
	Changed time.Time
}

// Texts are the Reports as files, sorted by ID.
func (m *Manager) Texts() []Text {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Text, 0, len(m.past)+len(m.reports))
	for _, p := range m.past {
		list = append(list, p.asText())
	}
	for _, r := range m.reports {
		list = append(list, r.asText())
	}
	slices.SortFunc(list, func(a, b Text) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Text is the one with an ID.
func (m *Manager) Text(id string) (Text, bool) {
	list := m.Texts()
	i, found := slices.BinarySearchFunc(list, id, func(t Text, id string) int { return cmp.Compare(t.ID, id) })
	if !found {
		return Text{}, false
	}
	return list[i], true
}

func (p past) asText() Text { return Text{p.Report.ID, encodeReport(p.shown()), p.Report.when()} }

// shown is the report as users see it: a restore whose process is gone doesn't run.
func (p past) shown() Report {
	report := p.Report
	if p.interrupted() && report.State != StateBroken {
		report.State = StateBroken
		report.Error = "the process that restored it was killed"
	}
	return report
}

func (r *record) asText() Text {
	text, changed := r.text()
	return Text{r.id(), text, changed}
}

// when is the time of the report's last change, as far as it tells.
func (r Report) when() time.Time {
	if r.Ended.IsZero() {
		return r.Started
	}
	return r.Ended
}
