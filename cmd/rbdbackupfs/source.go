package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/restore"
)

const (
	// statusFile is in the root of every mount.
	statusFile = "status.json"
	// answerPatience is how long a mount may take to answer a first question.
	answerPatience = 5 * time.Second
)

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
	Wait     time.Duration // how long to wait for chains that aren't known yet; 0: as long as it takes
}

func (q imageQuery) values() url.Values {
	return url.Values{"name": {q.Name}, "snapshot": {q.Snapshot}, "wait": {q.Wait.String()}}
}

func parseImageQuery(v url.Values) (imageQuery, error) {
	q := imageQuery{Name: v.Get("name"), Snapshot: v.Get("snapshot")}
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
	daemon  daemonReport
	journal restore.Journal
	imports *imports // nil without --import
}

func (s *localSource) Status(context.Context) (statusReport, error) {
	status := s.lib.Status()
	if status.Problems == nil {
		status.Problems = []chain.Problem{}
	}
	report := statusReport{Status: status, Daemon: s.daemon}
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
		if err := visit(newImageReport(img, q.Name != "", q.Snapshot)); err != nil {
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

// mountStatus reads status.json of the mount at an absolute path, as long as
// its process answers.
func mountStatus(ctx context.Context, mountpoint string) (statusReport, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	type answer struct {
		report statusReport
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		text, err := os.ReadFile(filepath.Join(mountpoint, statusFile))
		if err == nil {
			err = json.Unmarshal(text, &a.report)
		}
		a.err = err
		answers <- a
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return a.report, mountError(mountpoint, a.err)
		}
		return a.report, nil
	case <-ctx.Done():
		return statusReport{}, fmt.Errorf("the mount at %s doesn't answer: %w; end it with: umount -l %s", mountpoint, ctx.Err(), mountpoint)
	}
}

// openSource opens REPO or MOUNTPOINT: the running mount, if it has the index,
// else the repository itself. The command is who then holds the index.
func (a *app) openSource(ctx context.Context, path, command string, flags repoFlags, log *slog.Logger) (source, string, error) {
	resolved, mountpoint, err := findMount(path)
	if err != nil {
		return nil, "", err
	}
	if mountpoint != "" {
		if mountpoint != resolved {
			return nil, "", insideMount(resolved, mountpoint)
		}
		status, err := mountStatus(ctx, resolved)
		if err != nil {
			return nil, "", err
		}
		if status.Daemon.Socket != "" {
			return &remoteSource{daemon.NewClient(status.Daemon.Socket), resolved, status.Daemon.Index}, status.Repo, nil
		}
		resolved = status.Repo
	}
	repo, err := a.backend.OpenRepo(resolved, repoOptions{Rescan: flags.rescan, Log: log})
	if err != nil {
		return nil, "", err
	}
	src, err := a.openRepoSource(ctx, repo, command, flags, log)
	if err != nil {
		return nil, "", errors.Join(err, repo.Close())
	}
	return src, repo.Root(), nil
}

func (a *app) openRepoSource(ctx context.Context, repo repository, command string, flags repoFlags, log *slog.Logger) (source, error) {
	o, err := flags.library(a.backend, repo)
	if err != nil {
		return nil, err
	}
	owner := daemon.Owner{PID: os.Getpid(), Command: command, Started: a.now()}
	session, err := openSession(ctx, repo, o, owner, log)
	if locked := (*daemon.LockedError)(nil); errors.As(err, &locked) && locked.Owner.Mount() {
		if len(o.Links) > 0 {
			a.complain("--link changes nothing here: the mount at " + locked.Owner.Mountpoint + " has its own links")
		}
		client := daemon.NewClient(daemon.SocketPath(o.Index))
		if err := client.Await(ctx, answerPatience); err != nil {
			return nil, fmt.Errorf("%w: %w", locked, err)
		}
		return &remoteSource{client, locked.Owner.Mountpoint, o.Index}, repo.Close()
	}
	if err != nil {
		return nil, err
	}
	return a.newOwnSource(session), nil
}

// An ownSource is a localSource that shows how far its session has come while
// it is waited for, and ends with it.
type ownSource struct {
	localSource
	app     *app
	session *session
}

func (a *app) newOwnSource(s *session) *ownSource {
	return &ownSource{localSource: localSource{lib: s.lib}, app: a, session: s}
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
