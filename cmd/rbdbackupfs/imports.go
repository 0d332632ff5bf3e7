package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"syscall"

	"rbdbackupfs/fs"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/restore"
)

// imports is what a mount takes into import/, and where to.
type imports struct {
	target  target.Target
	manager *restore.Manager
	log     *slog.Logger
}

// newImports begins to end what earlier processes left.
func newImports(t target.Target, o restore.Options) (*imports, error) {
	o.Target = t
	if o.Journal.Dir == "" {
		o.Logger.Warn("an index in memory keeps no journal: what is being restored when this process is killed stays as it is then")
	}
	manager, err := restore.New(o)
	if err != nil {
		return nil, err
	}
	manager.Recover()
	return &imports{target: t, manager: manager, log: o.Logger}, nil
}

// startImports begins to take imports, with a target; without one it tells of what
// an earlier one has left.
func (m *mounter) startImports(to target.Target) (err error) {
	if to == nil {
		if left, err := m.source.journal.Interrupted(); err == nil && len(left) > 0 {
			m.log.Warn("interrupted restores are left; end them with: rbdbackupfs jobs --recover",
				slog.String("mountpoint", m.mountpoint), slog.Int("restores", len(left)))
		}
		return nil
	}
	m.imports, err = newImports(to, restore.Options{
		Journal: m.source.journal, Features: m.features, Force: m.o.imports.force,
		Folder: m.importFolder(), Logger: m.log.Logger,
	})
	if err != nil {
		return err
	}
	m.source.imports = m.imports
	m.tree.Importer = importer{m.imports}
	return nil
}

func (m *mounter) importFolder() string { return filepath.Join(m.mountpoint, "import") }

// Close undoes what isn't whole, and closes the target.
func (i *imports) Close() error {
	i.manager.Close()
	return i.target.Close()
}

// journalOf is the journal beside an index.
func journalOf(index string) restore.Journal {
	if index == memoryIndex {
		return restore.Journal{}
	}
	return restore.Journal{Dir: filepath.Join(index, journalFolder)}
}

// listJobs are the reports of a manager, or of the journal where that is nil, oldest
// first.
func listJobs(journal restore.Journal, manager *restore.Manager) (reports []restore.Report, err error) {
	if manager == nil {
		reports, err = journal.Reports()
	} else if err = manager.Refresh(); err == nil {
		reports = manager.Reports()
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(reports, func(a, b restore.Report) int { return a.Started.Compare(b.Started) })
	return reports, nil
}

// countJobs counts for status.json.
func countJobs(where string, reports []restore.Report) *importReport {
	report := &importReport{Target: where}
	for _, r := range reports {
		if r.Target != where && r.State != restore.StateBroken {
			continue // by the restore command
		}
		switch r.State {
		case restore.StateDone:
			report.Done++
		case restore.StateFailed:
			report.Failed++
		case restore.StateBroken:
			report.Broken++
		case restore.StateRunning, restore.StateFinishing, restore.StateUndoing:
			report.Running++
		}
	}
	return report
}

// An importer is imports as the mounted tree sees it.
type importer struct{ *imports }

var _ fs.Importer = importer{}

// Pools are the target's.
func (i importer) Pools(ctx context.Context) ([]string, error) {
	names, err := i.target.Pools(ctx)
	return names, i.logged(err)
}

// Namespaces are those of a pool.
func (i importer) Namespaces(ctx context.Context, pool string) ([]string, error) {
	names, err := i.target.Namespaces(ctx, pool)
	return names, i.logged(err)
}

// MakeFolder makes a pool or a namespace.
func (i importer) MakeFolder(ctx context.Context, pool, namespace string) error {
	return i.logged(i.target.MakeFolder(ctx, pool, namespace))
}

// Start begins a restore.
func (i importer) Start(ctx context.Context, name target.Name) (fs.Import, error) {
	job, err := i.manager.Start(ctx, name)
	if err != nil {
		return nil, i.logged(err)
	}
	return importJob{job}, nil
}

// Reports are the files of import/.jobs.
func (i importer) Reports() []fs.JobReport {
	texts := i.manager.Texts()
	reports := make([]fs.JobReport, 0, len(texts))
	for _, t := range texts {
		reports = append(reports, fs.JobReport{ID: t.ID, Size: int64(len(t.Bytes)), ModTime: t.Changed})
	}
	return reports
}

// Report is one of them.
func (i importer) Report(id string) ([]byte, bool) {
	text, found := i.manager.Text(id)
	return text.Bytes, found
}

// logged says in words what the caller is told by an errno. That something isn't
// there, which every lookup may learn, needs none.
func (i importer) logged(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), target.HasErrno(err, syscall.ENOENT):
	default:
		i.log.Warn("import refused", slog.Any("error", err))
	}
	return err
}

// An importJob takes the tree's views for sources.
type importJob struct{ *restore.Job }

// CopyFrom copies within this process.
func (j importJob) CopyFrom(ctx context.Context, src fs.View, from, off, n int64) (int64, error) {
	return j.Job.CopyFrom(ctx, src, from, off, n)
}
