package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rbdbackupfs/internal/target"
)

// Interrupted are the restores of the journal whose process is gone before they
// had ended, oldest first.
func (j Journal) Interrupted() ([]Report, error) {
	all, err := j.list()
	var list []Report
	for _, p := range all {
		if p.interrupted() {
			list = append(list, p.Report)
		}
	}
	return list, err
}

// Reports are those of the journal, oldest first.
func (j Journal) Reports() ([]Report, error) {
	all, err := j.list()
	list := make([]Report, 0, len(all))
	for _, p := range all {
		list = append(list, p.shown())
	}
	return list, err
}

// Recover ends the interrupted restores of a journal that went to a target: it
// commits those that were complete and undoes the others. One that another
// process is recovering is left to that. It calls done with each, and returns
// their errors together.
func (j Journal) Recover(ctx context.Context, t target.Target, done func(Report, error)) error {
	all, err := j.list()
	for _, p := range all {
		if !p.interrupted() || p.Report.Target != t.String() {
			continue
		}
		report, recoverErr := j.recover(ctx, t, p)
		if errors.Is(recoverErr, errElsewhere) {
			continue
		}
		if recoverErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.Report.Image, recoverErr))
		}
		done(report, recoverErr)
	}
	return err
}

// errElsewhere: another process is recovering the same restore.
var errElsewhere = errors.New("another process is at it")

// recover ends one restore, and returns its report as it is then.
func (j Journal) recover(ctx context.Context, t target.Target, p past) (report Report, err error) {
	e, err := j.reopen(p.Job.ID)
	if err != nil {
		return p.Report, err
	}
	if e == nil {
		return p.Report, errElsewhere
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if p.line, err = readLines(e.f, p.Job.ID); err != nil || p.over() {
		return p.Report, err // somebody was faster
	}
	restored, err := t.Recover(ctx, &p.Job)
	if err != nil {
		return p.Report, err
	}
	report = p.Report
	report.State = StateFailed
	if restored {
		report.State = StateDone
		report.Error, report.Errno = "", 0
	} else if report.Error == "" {
		report.Error = "interrupted: the process that restored it was killed; undone"
	}
	return report, e.put(report, p.Job)
}

const (
	// firstPause and longestPause are between two tries to end a restore that could
	// not be undone: the cluster may answer again, or have room.
	firstPause   = 15 * time.Second
	longestPause = 5 * time.Minute
)

// Recover begins to end what earlier processes left, in the background: what is
// written to the images that are concerned waits for that. Interrupted restores
// to other targets are only told of.
func (m *Manager) Recover() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.past {
		switch {
		case !p.interrupted():
		case p.Report.Target != m.target.String():
			m.log.Warn("an interrupted restore to another target is left; end it with: rbdbackupfs jobs --recover",
				slog.String("job", p.Report.ID), slog.String("image", p.Report.Image), slog.String("target", p.Report.Target))
		case !m.left[p.Job.Image]:
			m.left[p.Job.Image] = true
			m.wg.Go(func() { m.retry(p.Job.Image, 0) })
		}
	}
}

// retry ends what is left of an image, and tries until it can. The first try comes
// after a pause.
func (m *Manager) retry(name target.Name, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for told := pause > 0; ; told = true {
		select {
		case <-timer.C:
		case <-m.ctx.Done():
			return
		}
		err := m.recoverLeft(m.ctx, name)
		if err == nil || m.ctx.Err() != nil {
			return
		}
		if !told {
			m.log.Error("an interrupted restore can't be ended now; that is tried again and again, and by rbdbackupfs jobs --recover",
				slog.String("image", name.String()), slog.Any("error", err))
		}
		pause = min(max(2*pause, m.pause), longestPause)
		timer.Reset(pause)
	}
}

// recoverLeft ends the restores of an image that are left, once nobody else is at
// it.
func (m *Manager) recoverLeft(ctx context.Context, name target.Name) error {
	end, err := m.await(ctx, name)
	if err != nil {
		return err
	}
	defer end()
	if !m.isLeft(name) {
		return nil
	}
	if err := m.endLeft(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.left, name)
	return nil
}

func (m *Manager) isLeft(name target.Name) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left[name]
}

// await holds an image once nobody else does.
func (m *Manager) await(ctx context.Context, name target.Name) (end func(), err error) {
	for {
		m.mu.Lock()
		other := m.held[name]
		if other == nil {
			end = m.holdLocked(name)
		}
		m.mu.Unlock()
		if end != nil {
			return end, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// hold keeps others from undoing what an image's restore left, until its end.
func (m *Manager) hold(name target.Name) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holdLocked(name)
}

func (m *Manager) holdLocked(name target.Name) (end func()) {
	done := make(chan struct{})
	m.held[name] = done
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.held[name] == done { // not that of a restore that came after
			delete(m.held, name)
		}
		close(done)
	}
}

// endLeft goes by the journal: another process may have been faster.
func (m *Manager) endLeft(ctx context.Context, name target.Name) error {
	all, err := m.journal.list()
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.interrupted() || p.Job.Image != name || p.Report.Target != m.target.String() {
			continue
		}
		report, err := m.journal.recover(ctx, m.target, p)
		if err != nil {
			return refuse(name, target.ErrnoOf(err), "Mend that first", "an earlier restore of the image can't be undone: %w", err)
		}
		m.log.Info("ended an interrupted restore",
			slog.String("job", report.ID), slog.String("image", report.Image), slog.String("state", string(report.State)))
		m.took(report)
	}
	return nil
}

// took has a report shown as it is after a recovery.
func (m *Manager) took(report Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.past {
		if m.past[i].Report.ID == report.ID {
			m.past[i].Report = report
		}
	}
	for _, r := range m.reports {
		if r.id() == report.ID {
			r.recovered(report)
		}
	}
}
