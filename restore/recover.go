package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

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
		if recoverErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.Report.Image, recoverErr))
		}
		done(report, recoverErr)
	}
	return err
}

// recover ends one restore, and returns its report as it is then.
func (j Journal) recover(ctx context.Context, t target.Target, p past) (Report, error) {
	e, err := j.reopen(p.Job.ID)
	if err != nil || e == nil {
		return p.Report, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	restored, err := t.Recover(ctx, &p.Job)
	if err != nil {
		return p.Report, err
	}
	report := p.Report
	report.State = StateFailed
	if restored {
		report.State = StateDone
		report.Error, report.Errno = "", 0
	} else if report.Error == "" {
		report.Error = "interrupted: the process that restored it was killed; undone"
	}
	return report, e.put(report, p.Job)
}

// Recover begins to end what earlier processes left, in the background: images
// that are concerned can be written once that is done. Interrupted restores to
// other targets are only told of.
func (m *Manager) Recover() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.past {
		if !p.interrupted() {
			continue
		}
		attrs := []any{slog.String("job", p.Report.ID), slog.String("image", p.Report.Image), slog.String("target", p.Report.Target)}
		if p.Report.Target != m.target.String() {
			m.log.Warn("an interrupted restore to another target is left; end it with: rbdbackupfs jobs --recover", attrs...)
			continue
		}
		name := p.Job.Image
		if m.recovering[name] != nil {
			continue
		}
		m.recovering[name] = make(chan struct{})
		m.wg.Go(func() { m.recoverImage(name) })
	}
}

// recoverImage ends the interrupted restores of one image.
func (m *Manager) recoverImage(name target.Name) {
	for _, p := range m.pastOf(name) {
		if err := m.recoverOne(m.ctx, p); err != nil && m.ctx.Err() == nil {
			m.log.Error("an interrupted restore can't be ended; the next write to the image tries again, or rbdbackupfs jobs --recover",
				slog.String("job", p.Report.ID), slog.String("image", p.Report.Image), slog.Any("error", err))
			m.mu.Lock()
			m.left[name] = true
			m.mu.Unlock()
		}
	}
	m.mu.Lock()
	close(m.recovering[name])
	delete(m.recovering, name)
	m.mu.Unlock()
}

// recoverOne ends one restore, and tells of it.
func (m *Manager) recoverOne(ctx context.Context, p past) error {
	report, err := m.journal.recover(ctx, m.target, p)
	if err != nil {
		return err
	}
	m.log.Info("ended an interrupted restore", slog.String("job", report.ID), slog.String("image", report.Image), slog.String("state", string(report.State)))
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
	return nil
}

// recoverLeft ends the restores of an image that could not be undone before, such
// as for want of room.
func (m *Manager) recoverLeft(ctx context.Context, name target.Name) error {
	m.mu.Lock()
	left := m.left[name]
	m.mu.Unlock()
	if !left {
		return nil
	}
	all, err := m.journal.list()
	if err != nil {
		return err
	}
	for _, p := range all {
		if !p.interrupted() || p.Job.Image != name || p.Report.Target != m.target.String() {
			continue
		}
		if err := m.recoverOne(ctx, p); err != nil {
			return refuse(name, target.ErrnoOf(err), "Mend that first", "an earlier restore of the image can't be undone: %w", err)
		}
	}
	m.mu.Lock()
	delete(m.left, name)
	m.mu.Unlock()
	return nil
}

func (m *Manager) pastOf(name target.Name) []past {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.past)
	return slices.DeleteFunc(list, func(p past) bool { return !p.interrupted() || p.Job.Image != name })
}
