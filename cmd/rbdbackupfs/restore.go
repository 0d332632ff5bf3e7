package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/progress"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/restore"
)

// A restoring is one run of "restore".
type restoring struct {
	app      *app
	o        restoreOptions
	repo     string // as the user gave it
	wanted   string // IMAGE[@SNAPSHOT]
	where    targetURL
	to       target.Name
	features []string
	log      *slog.Logger
	begin    time.Time

	loose   *looseFiles // instead of repo and wanted
	src     source
	root    string // of the repository
	journal string // the folder of the index that the journal is in, or memoryIndex
	image   string
	path    []pathReport // what is restored, oldest first
	meta    map[string]string
	views   []snapshotView
}

// newRestoring checks the command line.
func (a *app) newRestoring(repo, image, destination string, o restoreOptions) (*restoring, error) {
	where, name, err := parseDestination(destination)
	if err != nil {
		return nil, err
	}
	features, err := parseFeatures(o.features)
	switch {
	case err != nil:
		return nil, err
	case where.kind != kindCeph && features != nil:
		return nil, usagef("--image-features is for ceph:POOL/IMAGE, and %s is something else", destination)
	case where.kind == kindStdout && o.all:
		return nil, usagef("--all-snapshots needs a target that keeps them: ceph:POOL/IMAGE")
	case where.kind == kindStdout && terminal(a.stdout):
		return nil, usagef("an image's bytes are nothing for a terminal; say file:PATH, or - and > FILE behind it")
	}
	if where.kind == kindFile {
		name = target.Name{Pool: "file", Image: "image"} // as restore.SingleFile calls it
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return &restoring{app: a, o: o, repo: repo, wanted: image, where: where, to: name, features: features, log: log, begin: a.now()}, nil
}

func (r *restoring) run(ctx context.Context) (err error) {
	var to target.Target
	if r.where.kind != kindStdout {
		// What can't be restored to is said before files are read for hours.
		if to, err = r.openTarget(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, to.Close()) }()
	}
	if err := r.openSource(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.src.Close()) }()
	if err := r.findPath(ctx); err != nil {
		return err
	}
	r.warn(ctx)
	for _, p := range r.path {
		if p.Meta != nil {
			r.meta = p.Meta // only some formats have it; the newest is the best
		}
	}
	if !r.o.all {
		r.path = r.path[len(r.path)-1:]
	}
	if err := r.openViews(ctx); err != nil {
		return errors.Join(err, r.closeViews())
	}
	defer func() { err = errors.Join(err, r.closeViews()) }()
	if to == nil {
		return r.toStdout(ctx)
	}
	return r.toTarget(ctx, to)
}

// openSource opens the repository, or what stands for it.
func (r *restoring) openSource(ctx context.Context) (err error) {
	if r.loose != nil {
		r.root = r.loose.root
		src, err := r.openLoose(ctx)
		if err == nil {
			r.src = src
		}
		return err
	}
	if r.src, r.root, err = r.app.openSource(ctx, r.repo, "restore", r.o.repoFlags, r.log); err != nil {
		return err
	}
	r.journal = r.src.Index()
	return nil
}

// findPath finds what is to be restored.
func (r *restoring) findPath(ctx context.Context) (err error) {
	if r.loose != nil {
		r.path, err = r.findLoosePath(ctx)
		return err
	}
	if err := r.checkPlaces(); err != nil {
		return err
	}
	r.image, r.path, err = findPath(ctx, r.src, r.root, r.wanted)
	return err
}

// openTarget opens the target, where nothing may be in the way.
func (r *restoring) openTarget(ctx context.Context) (target.Target, error) {
	if r.where.kind == kindFile {
		if err := checkNewFile(r.where.path); err != nil {
			return nil, err
		}
	}
	to, err := r.app.backend.OpenTarget(ctx, r.where, r.log)
	if err != nil {
		return nil, err
	}
	exists, err := to.Exists(ctx, r.to)
	if err == nil && exists {
		err = fmt.Errorf("%s exists already; choose another name, or remove that image first", r.where.destination(r.to))
	}
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	return to, nil
}

// checkNewFile says what is in the way of a new file.
func checkNewFile(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no folder %s; make it first: mkdir -p %[1]s", filepath.Dir(path))
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder: %w; name a new file in it", path, syscall.EEXIST)
	case info.Mode()&os.ModeDevice != 0:
		return fmt.Errorf("%s is a device: %w; write to it with: rbdbackupfs restore ... - | dd of=%[1]s bs=4M", path, syscall.EEXIST)
	}
	return fmt.Errorf("%s: %w; choose another name, or remove that file first", path, syscall.EEXIST)
}

// checkPlaces keeps a file out of the repository, the index and the mount.
func (r *restoring) checkPlaces() error {
	if r.where.kind != kindFile {
		return nil
	}
	places := []place{{"REPO", r.root}}
	if index := r.src.Index(); index != memoryIndex {
		places = append(places, place{"index", index})
	}
	if remote, ok := r.src.(*remoteSource); ok {
		places = append(places, place{"MOUNT", remote.mountpoint})
	}
	for _, p := range places {
		if err := r.app.backend.CheckOverlap(p, place{"the new file", r.where.path}); err != nil {
			return err
		}
	}
	return nil
}

// openViews opens the bytes of all snapshots, so that they stay what they are when
// backup files are replaced.
func (r *restoring) openViews(ctx context.Context) error {
	for _, p := range r.path {
		view, err := r.src.View(ctx, r.image, p)
		if err != nil {
			return err
		}
		r.views = append(r.views, view)
	}
	last := r.path[len(r.path)-1]
	again, err := r.src.Path(ctx, r.image, last.Label)
	if err != nil {
		return err
	}
	now := make(map[uint64]bool, len(again))
	for _, p := range again {
		now[p.Generation] = true
	}
	for _, p := range r.path {
		if !now[p.Generation] {
			return changedMeanwhile(r.image)
		}
	}
	return nil
}

func (r *restoring) closeViews() error {
	var errs []error
	for _, v := range r.views {
		errs = append(errs, v.Close())
	}
	r.views = nil
	return errors.Join(errs...)
}

// points are the snapshots as a restore takes them. Without --all-snapshots there
// is one, and no snapshot is made of it.
func (r *restoring) points() []restore.Point {
	points := make([]restore.Point, 0, len(r.path))
	for i, p := range r.path {
		point := restore.Point{Source: r.views[i], Size: p.Size, Data: p.Allocated}
		if r.o.all {
			point.Snapshot, point.Protect = p.bytes(), p.Protected
		}
		if i > 0 {
			point.Data = p.Step.Bytes
			q := changesQuery{Image: r.image, From: r.path[i-1].Generation, To: p.Generation}
			point.Changes = func(ctx context.Context, visit func(off, n int64, data bool) error) error {
				return r.src.Changes(ctx, q, func(c chain.Change) error { return visit(c.Off, c.Len, c.Data) })
			}
		}
		points = append(points, point)
	}
	return points
}

func (r *restoring) toTarget(ctx context.Context, to target.Target) (err error) {
	manager, err := restore.New(restore.Options{
		Target: to, Journal: journalOf(r.journal), Features: r.features, Logger: r.log,
	})
	if err != nil {
		return err
	}
	defer manager.Close()
	job, err := manager.NewRestore(r.to, r.points(), target.Layout{Meta: r.meta})
	if err != nil {
		return err
	}
	err = r.await(ctx, job)
	report := job.Report()
	if err != nil {
		return r.failed(ctx, err, report)
	}
	line := r.summary(report.Size, report.Data)
	if r.o.all {
		line += ", " + count(len(r.path), "snapshot")
	}
	fmt.Fprintln(r.app.stdout, printable(line))
	return nil
}

func (r *restoring) label() string {
	return r.image + "@" + r.path[len(r.path)-1].Label
}

func (r *restoring) summary(length, data int64) string {
	return fmt.Sprintf("restored %s to %s: %s, %s of data in %s", r.label(), r.where.destination(r.to),
		size(length), size(data), elapsed(r.app.now().Sub(r.begin)))
}

// await runs a restore and shows how far it has come. After a first Ctrl-C it waits
// until all is undone; the second one isn't caught any more.
func (r *restoring) await(ctx context.Context, job *restore.Restore) error {
	ended := make(chan error, 1)
	go func() { ended <- job.Run(ctx) }()
	bar := r.app.progress("restoring")
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for interrupted := ctx.Done(); ; {
		select {
		case err := <-ended:
			bar.Finish(err == nil)
			return err
		case <-tick.C:
			if report := job.Report(); interrupted != nil {
				bar.Update(min(report.Received, report.Total), report.Total, progress.Bytes, printable(r.label()))
			}
		case <-interrupted:
			interrupted = nil
			bar.Finish(false)
			signal.Reset(os.Interrupt, unix.SIGTERM)
			r.app.complain("interrupted: undoing what was restored so far")
		}
	}
}

// failed says what is left of a restore: nothing, or something to recover.
func (r *restoring) failed(ctx context.Context, err error, report restore.Report) error {
	left := "nothing is left at " + r.where.destination(r.to)
	if report.State == restore.StateBroken {
		left = "what is left at " + r.where.destination(r.to) + " is undone by: rbdbackupfs jobs --recover --index " + r.journal + " " + r.root
	}
	if ctx.Err() != nil && report.State != restore.StateBroken {
		return errors.New("interrupted; " + left)
	}
	return fmt.Errorf("%w; %s", r.nameDamage(ctx, err), left)
}
