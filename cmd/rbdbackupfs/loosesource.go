package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/layout"
)

// openLoose opens the files as a repository with one image, and waits until all is
// known of them. The index is in memory: they are read once. Only the journal is in
// a folder, that of a repository at the folder in common, so that "jobs" finds it.
func (r *restoring) openLoose(ctx context.Context) (src *ownSource, err error) {
	o := libraryOptions{Index: memoryIndex, Layout: layoutChoice{Config: layout.Config{One: r.image}, TrustNames: r.o.trustNames}, Given: r.loose.typed}
	if o.Layout.Links, err = r.loose.links(r.o.repoFlags); err != nil {
		return nil, err
	}
	repo, err := r.app.backend.OpenRepo(r.loose.root, repoOptions{Only: r.loose.paths, Log: r.log})
	if err != nil {
		return nil, err
	}
	if err := r.looseFolders(repo, &o); err != nil {
		return nil, errors.Join(err, repo.Close())
	}
	if r.o.cache == "" && r.o.index != memoryIndex {
		o.CacheIn = cmp.Or(os.Getenv("TMPDIR"), "/var/tmp")
	}
	owner := daemon.Owner{PID: os.Getpid(), Command: "restore", Started: r.app.now()}
	session, err := openSession(ctx, repo, o, owner, r.log)
	if err != nil {
		return nil, errors.Join(err, repo.Close())
	}
	src = r.app.newOwnSource(session)
	// Not before that it is known which of several files for one snapshot agree.
	if err := src.await(ctx, src.session.lib.Idle()); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// looseFolders finds where the journal is, and the cache of compressed files if
// the user says so.
func (r *restoring) looseFolders(repo repository, o *libraryOptions) (err error) {
	r.journal = memoryIndex
	if r.where.kind != kindStdout {
		if r.journal, err = r.o.indexPlace(repo); err != nil {
			return err
		}
	}
	if o.CacheSize, err = parseCacheSize(r.o.cacheSize); err != nil {
		return err
	}
	o.Cache, err = r.o.cachePlace(repo, memoryIndex)
	return err
}

// imageName names the image for messages: as the target does, else as the first file.
func (r *restoring) imageName() string {
	switch r.where.kind {
	case kindCeph:
		return r.to.String()
	case kindFile:
		return withoutEnding(filepath.Base(r.where.path))
	}
	return withoutEnding(filepath.Base(r.loose.typed[r.loose.paths[0]]))
}

// withoutEnding cuts what begins at the first dot, but for one at the beginning.
func withoutEnding(name string) string {
	if at := strings.IndexByte(name, '.'); at > 0 {
		return name[:at]
	}
	return name
}

// looseState is what the files make, and what is wrong with them.
type looseState struct {
	*looseFiles
	img      imageReport
	problems []chain.Problem
}

// findLoosePath finds what is to be restored. It takes all files or none: who named
// one that isn't read believes that it is in the image.
func (r *restoring) findLoosePath(ctx context.Context) ([]pathReport, error) {
	state := looseState{looseFiles: r.loose}
	err := r.src.Images(ctx, imageQuery{Name: r.image}, func(img imageReport) error {
		state.img = img
		return nil
	})
	if err != nil && !isNotFound(err) { // of files that are being written no image is made
		return nil, err
	}
	status, err := r.src.Status(ctx)
	if err != nil {
		return nil, err
	}
	state.problems = status.Problems
	label := cmp.Or(r.o.snapshot, state.img.Latest)
	if label == "" {
		return nil, errors.New("no image can be made of these files; nothing was restored" + state.lines(r.loose.paths, ""))
	}
	if !slices.ContainsFunc(state.img.Snapshots, func(s snapshotReport) bool { return s.Label == label }) {
		return nil, state.noSnapshot(label)
	}
	path, err := r.src.Path(ctx, r.image, label)
	if err != nil {
		return nil, err
	}
	unused := slices.DeleteFunc(slices.Clone(r.loose.paths), func(file string) bool {
		return slices.ContainsFunc(path, func(p pathReport) bool { return p.Step.File == file })
	})
	if len(unused) > 0 {
		return nil, fmt.Errorf("%s is not made of all of these files, so nothing was restored%s",
			printable(r.image+"@"+label), state.lines(unused, label))
	}
	return path, nil
}

// noSnapshot says which ones there are, or why there isn't this one.
func (s *looseState) noSnapshot(label string) error {
	for _, p := range s.problems {
		if p.Snapshot == label && !p.Serving {
			return errors.New(printable(p.String()))
		}
	}
	labels := make([]string, 0, len(s.img.Snapshots))
	for _, snap := range s.img.Snapshots {
		labels = append(labels, cell(snap.Label))
	}
	if len(labels) == 0 {
		return errors.New("no image can be made of these files; nothing was restored" + s.lines(s.paths, label))
	}
	return fmt.Errorf("--snapshot %s: these files don't have it, but: %s", cell(label), strings.Join(labels, ", "))
}

// lines say of each file, on lines of their own, why it isn't used for a snapshot.
func (s *looseState) lines(paths []string, label string) string {
	var b strings.Builder
	for _, path := range paths {
		for _, why := range s.reasons(path, label) {
			fmt.Fprintf(&b, "\n  %s: %s", printable(s.typed[path]), printable(why))
		}
	}
	return b.String()
}

func (s *looseState) reasons(path, label string) (list []string) {
	for _, p := range s.problems {
		if p.File != path && !within(path, p.File) && p.File != "." {
			continue
		}
		if p.Kind == chain.KindSuspicious && p.Serving {
			continue // not why it is left out
		}
		p.File = s.show(path)
		line := p.String()
		if p.Snapshot == "" {
			line = strings.TrimPrefix(line, p.File+": ")
		}
		list = append(list, line)
	}
	if len(list) > 0 {
		return list
	}
	at := slices.IndexFunc(s.img.Files, func(f *chain.File) bool { return f.Path == path })
	switch {
	case at < 0:
		return []string{"isn't there any more"}
	case s.img.Files[at].State == "alternative":
		return []string{"holds the same as another one of the files. Leave one out"}
	case len(s.img.Files[at].Links) == 0:
		return []string{"isn't needed. Leave it out"}
	}
	links := s.img.Files[at].Links
	return []string{fmt.Sprintf("leads to %s, which %s isn't built on. Leave it out", cell(links[len(links)-1].To), cell(label))}
}
