package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"rbdbackupfs/internal/daemon"
)

// answerPatience is how long a mount may take to answer a first question.
const answerPatience = 5 * time.Second

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
	if err := flags.check(); err != nil {
		return nil, "", err
	}
	resolved, mountpoint, err := findMount(path)
	if err != nil {
		return nil, "", err
	}
	var mounted *layoutChoice
	if mountpoint != "" {
		if mountpoint != resolved {
			return nil, "", insideMount(resolved, mountpoint)
		}
		status, err := mountStatus(ctx, resolved)
		if err != nil {
			return nil, "", err
		}
		a.tellIgnored(&flags.layoutFlags, status.Daemon.Index, daemon.Owner{Mountpoint: mountpoint, Started: status.Daemon.Started})
		if status.Daemon.Socket != "" {
			return &remoteSource{daemon.NewClient(status.Daemon.Socket), resolved, status.Daemon.Index}, status.Repo, nil
		}
		resolved = status.Repo
		choice := status.Layout.choice()
		mounted = &choice
	}
	repo, err := a.backend.OpenRepo(resolved, repoOptions{Rescan: flags.rescan, Log: log})
	if err != nil {
		return nil, "", err
	}
	src, err := a.openRepoSource(ctx, repo, command, flags, mounted, log)
	if err != nil {
		return nil, "", errors.Join(err, repo.Close())
	}
	return src, repo.Root(), nil
}

// openRepoSource opens a repository. mounted is the layout of the mount that shows
// it and can't be asked, nil for none.
func (a *app) openRepoSource(ctx context.Context, repo repository, command string, flags repoFlags, mounted *layoutChoice, log *slog.Logger) (source, error) {
	index, err := flags.indexFolder(a.backend, repo)
	if err != nil {
		return nil, err
	}
	// A mount is asked without a look at our own layout, which may be wrong.
	if owner, held := daemon.Holder(index); held && owner.Mount() {
		return a.askMount(ctx, repo, index, &flags.layoutFlags, &daemon.LockedError{Dir: index, Owner: owner})
	}
	o, err := flags.library(a.backend, repo, index)
	if err != nil {
		return nil, err
	}
	if mounted != nil {
		o.Layout = *mounted
	} else if o.Layout, err = flags.choose(index, repo.Root()); err != nil {
		return nil, err
	}
	owner := daemon.Owner{PID: os.Getpid(), Command: command, Started: a.now()}
	session, err := openSession(ctx, repo, o, owner, log)
	if locked := (*daemon.LockedError)(nil); errors.As(err, &locked) && locked.Owner.Mount() {
		return a.askMount(ctx, repo, index, &flags.layoutFlags, locked)
	}
	if err != nil {
		return nil, err
	}
	return a.newOwnSource(session), nil
}

// askMount asks the mount that has the index.
func (a *app) askMount(ctx context.Context, repo repository, index string, flags *layoutFlags, locked *daemon.LockedError) (source, error) {
	a.tellIgnored(flags, index, locked.Owner)
	client := daemon.NewClient(daemon.SocketPath(index))
	if err := client.Await(ctx, answerPatience); err != nil {
		return nil, fmt.Errorf("%w: %w", locked, err)
	}
	return &remoteSource{client, locked.Owner.Mountpoint, index}, repo.Close()
}

// tellIgnored says what changes nothing because a mount answers: it goes on with
// what it began with.
func (a *app) tellIgnored(flags *layoutFlags, index string, owner daemon.Owner) {
	if given := flags.given(); len(given) > 0 {
		verb := "changes"
		if len(given) > 1 {
			verb = "change"
		}
		a.complain(fmt.Sprintf("%s %s nothing here: the mount at %s has its own layout and links", flagList(given), verb, owner.Mountpoint))
		return
	}
	path, _, err := flags.layoutPath(index)
	if err != nil || path == "" {
		return
	}
	if info, err := os.Stat(path); err == nil && info.ModTime().After(owner.Started) {
		a.complain(fmt.Sprintf("%s has changed since the mount at %s began, which goes on with what it was; mount it anew", path, owner.Mountpoint))
	}
}
