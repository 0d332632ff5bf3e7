package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/restore"
)

// What restoring asks of a source: the bytes of snapshots, from a library of our
// own, or through the file tree of a running mount.
type snapshots interface {
	// Path gives the snapshots from the first full export to the one with a label
	// (empty: the latest), in order. It waits until the image's chain is known.
	// Errors: a daemon.StatusError, http.StatusNotFound for no such snapshot.
	Path(ctx context.Context, image, label string) ([]pathReport, error)
	// View gives the bytes of one of them.
	View(ctx context.Context, image string, p pathReport) (snapshotView, error)
	// Changes visits where a snapshot may differ from another, see chain.View.
	Changes(ctx context.Context, q changesQuery, visit func(chain.Change) error) error
	// Index is the folder of the index, or memoryIndex.
	Index() string
}

// A snapshotView is the bytes of a snapshot.
type snapshotView interface {
	restore.Source
	Close() error
}

// A pathReport is one snapshot of a path. The generation says which bytes it has:
// they are others when a backup file was replaced.
type pathReport struct {
	snapshotReport
	Generation uint64 `json:"generation"`
}

// A changesQuery names two snapshots of an image by their generations.
type changesQuery struct {
	Image    string
	From, To uint64
}

func (q changesQuery) values() url.Values {
	return url.Values{"image": {q.Image}, "from": {strconv.FormatUint(q.From, 10)}, "to": {strconv.FormatUint(q.To, 10)}}
}

func parseChangesQuery(v url.Values) (q changesQuery, err error) {
	q.Image = v.Get("image")
	var again error
	q.From, err = strconv.ParseUint(v.Get("from"), 10, 64)
	q.To, again = strconv.ParseUint(v.Get("to"), 10, 64)
	if err = errors.Join(err, again); err != nil {
		err = daemon.Fail(http.StatusBadRequest, err)
	}
	return q, err
}

// errNoSuchName is for what names neither an image nor a snapshot.
var errNoSuchName = errors.New("there is no")

// findPath takes name for an image, and then for IMAGE@SNAPSHOT at each '@': both
// may hold one.
func findPath(ctx context.Context, src source, root, name string) (image string, path []pathReport, err error) {
	name = strings.TrimRight(name, "/") // as the shell completes folders
	image = name
	for label, at := "", len(name); ; {
		path, err = src.Path(ctx, image, label)
		if err == nil || !isNotFound(err) {
			return image, path, err
		}
		if at = strings.LastIndexByte(name[:at], '@'); at < 0 {
			return "", nil, fmt.Errorf("%w %s in %s; see: rbdbackupfs ls %s", errNoSuchName, name, root, root)
		}
		image, label = name[:at], name[at+1:]
	}
}

// Path looks into the library.
func (s *localSource) Path(ctx context.Context, image, label string) ([]pathReport, error) {
	img, err := s.lib.Image(ctx, image)
	if errors.Is(err, chain.ErrNotFound) {
		return nil, daemon.Fail(http.StatusNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	last := img.Latest
	if label != "" {
		i := slices.IndexFunc(img.Snapshots, func(s *chain.Snapshot) bool { return s.Label() == label })
		if i < 0 {
			return nil, notServed(s.lib.Status().Repo, img, label)
		}
		last = img.Snapshots[i]
	}
	if last == nil {
		return nil, daemon.Fail(http.StatusConflict, fmt.Errorf("no snapshot of %s can be read; see: rbdbackupfs ls %s %s", image, s.lib.Status().Repo, image))
	}
	var path []pathReport
	for snap := last; snap != nil; snap = snap.Parent {
		path = append(path, pathReport{newSnapshotReport(snap, snap.Step.Trust), snap.Generation})
	}
	slices.Reverse(path)
	return path, nil
}

// notServed says why a snapshot is withheld, or that there is none.
func notServed(root string, img *chain.Image, label string) error {
	for _, p := range img.Problems {
		if p.Snapshot == label && !p.Serving {
			return daemon.Fail(http.StatusConflict, errors.New(problemLine(root, p)))
		}
	}
	return daemon.Fail(http.StatusNotFound, chain.ErrNotFound)
}

// snapshot finds one by its generation.
func (s *localSource) snapshot(ctx context.Context, image string, generation uint64) (*chain.Snapshot, error) {
	img, err := s.lib.Image(ctx, image)
	if err != nil && !errors.Is(err, chain.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		for _, snap := range img.Snapshots {
			if snap.Generation == generation {
				return snap, nil
			}
		}
	}
	return nil, changedMeanwhile(image)
}

func changedMeanwhile(image string) error {
	return daemon.Fail(http.StatusConflict, fmt.Errorf("the backup files of %s have changed meanwhile; try again", image))
}

// View opens it in the library.
func (s *localSource) View(ctx context.Context, image string, p pathReport) (snapshotView, error) {
	view, err := s.openView(ctx, image, p.Generation)
	if err != nil {
		return nil, err
	}
	return view, nil
}

func (s *localSource) openView(ctx context.Context, image string, generation uint64) (*chain.View, error) {
	snap, err := s.snapshot(ctx, image, generation)
	if err != nil {
		return nil, err
	}
	return s.lib.OpenView(snap)
}

// Changes compares the two in the index.
func (s *localSource) Changes(ctx context.Context, q changesQuery, visit func(chain.Change) error) error {
	from, err := s.openView(ctx, q.Image, q.From)
	if err != nil {
		return err
	}
	to, err := s.openView(ctx, q.Image, q.To)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	err = to.Changes(ctx, from, 0, visit)
	return errors.Join(err, from.Close(), to.Close())
}

// Index is the one of the mount.
func (s *localSource) Index() string { return s.daemon.Index }

func (s *localSource) answerPath(ctx context.Context, v url.Values) (any, error) {
	path, err := s.Path(ctx, v.Get("image"), v.Get("snapshot"))
	return daemon.Stream(func(emit func(any) error) error { return each(path, emit) }), err
}

// answerChanges ends with the one who asks: the context is the connection's.
func (s *localSource) answerChanges(ctx context.Context, v url.Values) (any, error) {
	q, err := parseChangesQuery(v)
	return daemon.Stream(func(emit func(any) error) error {
		return s.Changes(ctx, q, func(c chain.Change) error { return emit(c) })
	}), err
}

// Path shows how far the session has come while it waits.
func (s *ownSource) Path(ctx context.Context, image, label string) ([]pathReport, error) {
	if err := s.awaitImage(ctx, image); err != nil {
		return nil, err
	}
	return s.localSource.Path(ctx, image, label)
}

// Index is the session's.
func (s *ownSource) Index() string { return s.session.index }

// Path asks the mount.
func (s *remoteSource) Path(ctx context.Context, image, label string) (path []pathReport, err error) {
	err = s.client.Each(ctx, routePath, url.Values{"image": {image}, "snapshot": {label}}, func(text json.RawMessage) error {
		var p pathReport
		err := json.Unmarshal(text, &p)
		path = append(path, p)
		return err
	})
	return path, err
}

// View opens the file in the mount, if that is still there.
func (s *remoteSource) View(_ context.Context, _ string, p pathReport) (snapshotView, error) {
	if _, err := fs.MountedAt(s.mountpoint); err != nil {
		return nil, err
	}
	return openFileView(filepath.Join(s.mountpoint, p.Path), p.Size)
}

// Changes asks the mount.
func (s *remoteSource) Changes(ctx context.Context, q changesQuery, visit func(chain.Change) error) error {
	return s.client.Each(ctx, routeChanges, q.values(), func(text json.RawMessage) error {
		var c chain.Change
		if err := json.Unmarshal(text, &c); err != nil {
			return err
		}
		return visit(c)
	})
}

// Index is the one of the mount.
func (s *remoteSource) Index() string { return s.index }
