package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/overlay"
	"rbdbackupfs/restore"
)

// statusFile is in the root of every mount.
const statusFile = "status.json"

// The routes of a running mount.
const (
	routeStatus = "/v1/status"
	routeNames  = "/v1/names"
	routeImages = "/v1/images"
	routeJobs   = "/v1/jobs"
	routePath   = "/v1/path"
	// routeChanges tells what differs between two snapshots.
	routeChanges = "/v1/changes"
)

// A source answers questions about a repository: our own session, or the
// running mount that has the index.
type source interface {
	Status(ctx context.Context) (statusReport, error)
	// Names streams the names of all images.
	Names(ctx context.Context, visit func(nameReport) error) error
	// Images streams the images that q asks for.
	Images(ctx context.Context, q imageQuery, visit func(imageReport) error) error
	snapshots
	Close() error
}

// An imageQuery asks for one image, or for all of them.
type imageQuery struct {
	Name     string        // empty: all
	Snapshot string        // label; empty: all, only with Name
	Files    bool          // also the files of each of all
	Wait     time.Duration // how long to wait for chains that aren't known yet; 0: as long as it takes
}

func (q imageQuery) values() url.Values {
	v := url.Values{"name": {q.Name}, "snapshot": {q.Snapshot}, "wait": {q.Wait.String()}}
	if q.Files {
		v.Set("files", "1")
	}
	return v
}

func parseImageQuery(v url.Values) (imageQuery, error) {
	q := imageQuery{Name: v.Get("name"), Snapshot: v.Get("snapshot"), Files: v.Get("files") != ""}
	if wait := v.Get("wait"); wait != "" {
		var err error
		if q.Wait, err = time.ParseDuration(wait); err != nil {
			return q, daemon.Fail(http.StatusBadRequest, err)
		}
	}
	return q, nil
}

// A localSource asks the library of this process.
type localSource struct {
	lib     library
	layout  layoutChoice
	daemon  daemonReport
	journal restore.Journal
	imports *imports       // nil without --import
	scratch *overlay.Store // nil without scratch/
}

func (s *localSource) Status(context.Context) (statusReport, error) {
	status := s.lib.Status()
	if status.Problems == nil {
		status.Problems = []chain.Problem{}
	}
	report := statusReport{Status: status, Layout: newLayoutReport(s.layout, status.Layout), Daemon: s.daemon}
	report.Scratch = s.scratchStatus()
	if s.imports != nil {
		jobs, err := s.Jobs()
		if err != nil {
			jobs = s.imports.manager.Reports() // those of this process, at least
		}
		report.Imports = countJobs(s.imports.target.String(), jobs)
	}
	return report, nil
}

func (s *localSource) Names(_ context.Context, visit func(nameReport) error) error {
	for _, name := range s.lib.Names() {
		if err := visit(newNameReport(name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *localSource) Images(ctx context.Context, q imageQuery, visit func(imageReport) error) error {
	if q.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.Wait)
		defer cancel()
	}
	names := []string{q.Name}
	if q.Name == "" {
		select {
		case <-s.lib.Listed():
		case <-ctx.Done():
		}
		names = s.lib.Names()
	}
	for _, name := range names {
		img, err := s.lib.Image(ctx, name)
		switch {
		case q.Name == "" && errors.Is(err, chain.ErrNotFound):
			continue // it went while we were at it
		case errors.Is(err, chain.ErrPending), errors.Is(err, context.DeadlineExceeded):
			img = &chain.Image{Name: name, State: chain.StatePending}
		case errors.Is(err, chain.ErrNotFound):
			return daemon.Fail(http.StatusNotFound, err)
		case err != nil:
			return err
		}
		if err := visit(newImageReport(img, q.Name != "" || q.Files, q.Snapshot)); err != nil {
			return err
		}
	}
	return nil
}

func (s *localSource) Close() error { return nil }

// routes answers the questions of other processes.
func (s *localSource) routes() map[string]daemon.Route {
	return map[string]daemon.Route{
		routeStatus: func(ctx context.Context, _ url.Values) (any, error) { return s.Status(ctx) },
		routeNames: func(ctx context.Context, _ url.Values) (any, error) {
			return daemon.Stream(func(emit func(any) error) error {
				return s.Names(ctx, func(n nameReport) error { return emit(n) })
			}), nil
		},
		routeImages: func(ctx context.Context, v url.Values) (any, error) {
			q, err := parseImageQuery(v)
			if err != nil {
				return nil, err
			}
			if q.Name == "" {
				return daemon.Stream(func(emit func(any) error) error {
					return s.Images(ctx, q, func(r imageReport) error { return emit(r) })
				}), nil
			}
			// One image is looked up before the answer begins: 404 or it.
			var one imageReport
			err = s.Images(ctx, q, func(r imageReport) error { one = r; return nil })
			return daemon.Stream(func(emit func(any) error) error { return emit(one) }), err
		},
		routeJobs: func(context.Context, url.Values) (any, error) {
			jobs, err := s.Jobs()
			return daemon.Stream(func(emit func(any) error) error { return each(jobs, emit) }), err
		},
		routePath:    s.answerPath,
		routeChanges: s.answerChanges,
	}
}

// Jobs are the restores of this process, and those of the journal.
func (s *localSource) Jobs() ([]restore.Report, error) {
	if s.imports != nil {
		return listJobs(s.journal, s.imports.manager)
	}
	return listJobs(s.journal, nil)
}

func each[T any](list []T, emit func(any) error) error {
	for _, v := range list {
		if err := emit(v); err != nil {
			return err
		}
	}
	return nil
}

// A remoteSource asks a running mount.
type remoteSource struct {
	client     *daemon.Client
	mountpoint string
	index      string
}

func (s *remoteSource) Status(ctx context.Context) (report statusReport, err error) {
	err = s.client.Get(ctx, routeStatus, nil, &report)
	return report, err
}

func (s *remoteSource) Names(ctx context.Context, visit func(nameReport) error) error {
	return s.client.Each(ctx, routeNames, nil, func(text json.RawMessage) error {
		var report nameReport
		if err := json.Unmarshal(text, &report); err != nil {
			return err
		}
		return visit(report)
	})
}

func (s *remoteSource) Images(ctx context.Context, q imageQuery, visit func(imageReport) error) error {
	return s.client.Each(ctx, routeImages, q.values(), func(text json.RawMessage) error {
		var report imageReport
		if err := json.Unmarshal(text, &report); err != nil {
			return err
		}
		return visit(report)
	})
}

func (s *remoteSource) Close() error {
	s.client.Close()
	return nil
}

// An ownSource is a localSource that shows how far its session has come while
// it is waited for, and ends with it.
type ownSource struct {
	localSource
	app     *app
	session *session
}

func (a *app) newOwnSource(s *session) *ownSource {
	return &ownSource{localSource: localSource{lib: s.lib, layout: s.layout}, app: a, session: s}
}

func (s *ownSource) Images(ctx context.Context, q imageQuery, visit func(imageReport) error) error {
	var err error
	if q.Name == "" {
		err = s.await(ctx, s.session.lib.Idle())
	} else {
		err = s.awaitImage(ctx, q.Name)
	}
	if err != nil {
		return err
	}
	return s.localSource.Images(ctx, q, visit)
}

func (s *ownSource) Names(ctx context.Context, visit func(nameReport) error) error {
	if err := s.await(ctx, s.session.lib.Listed()); err != nil {
		return err
	}
	return s.localSource.Names(ctx, visit)
}

// awaitImage waits until all is known of one image, or that there is none.
func (s *ownSource) awaitImage(ctx context.Context, name string) error {
	known := make(chan struct{})
	go func() {
		defer close(known)
		// Its outcome is asked for again by the caller.
		_, _ = s.session.lib.Image(ctx, name)
	}()
	return s.await(ctx, known)
}

func (s *ownSource) await(ctx context.Context, until <-chan struct{}) error {
	_, err := s.app.await(ctx, s.session, waiting{until: until, progress: true})
	return err
}

func (s *ownSource) Close() error { return errors.Join(s.session.Close(), s.session.repo.Close()) }

var _ = []source{(*localSource)(nil), (*remoteSource)(nil), (*ownSource)(nil)}
