package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/layout"
)

const layoutHelp = `layout tells for each backup file which image and which snapshots it was taken
for, and what that rests on, without mounting anything.

KNOWN BY is how the name of the snapshot at the end of a step (TO) is known:

    header      the file itself says it
    name        the file's name says it
    inferred    others need it, and it occurs in the file's path
    link        you said so, with --link or in ` + layoutFileName + `

LINK is what the step from the snapshot before (FROM) rests on:

    verified    both ends are in one file, it is full, or checksums vouch for it
    by name     the names agree; the formats carry nothing more
    suspicious  the names agree, and something speaks against it: what builds
                on it is withheld until --link or --trust-names says it is right
    link        you said so, with --link or in ` + layoutFileName + `

Below the table is a line for everything that is wrong, with the cure, as in ls;
the exit status is then 3.

The layouts are

    auto        from what is known of the files and their names (default)
    plain       a folder for each image; raw exports are named *.raw or *.img
    barc        as cv4pve-barc does
    opennebula  as OpenNebula does

or a regular expression (RE2) for the paths below REPO with named groups, from
which --layout-image and --layout-snap make names. {dir} is the name of the
file's folder, {base} the file's own.

With any of these flags, layout shows what they would give, also while REPO is
mounted otherwise; it then reads all headers anew. Without them, it asks the
running mount, or else takes what ` + layoutFileName + ` in the index's folder says.`

type layoutOptions struct {
	repoFlags
	json bool
}

func (a *app) layoutCommand() *cobra.Command {
	var o layoutOptions
	c := &cobra.Command{
		Use:   "layout REPO|MOUNTPOINT",
		Short: "Explain which image and snapshot each backup file is taken for",
		Long:  layoutHelp,
		Example: `  rbdbackupfs layout /srv/backup
  rbdbackupfs layout --layout plain /srv/backup
  rbdbackupfs layout \
      --layout-regex '(?P<d>\d{14})(?P<pool>[^./]+)\.(?P<img>[^/]+)\.diff$' \
      --layout-image '{pool}/{img}' --layout-snap 'barc{dir}{d}' /srv/backup
  rbdbackupfs layout --link full-0101.img=vm1@0101 /srv/backup
  rbdbackupfs layout --json /mnt/backups | jq '.files[] | select(.image == "")'`,
		Args: between(1, 1),
		RunE: func(c *cobra.Command, args []string) error { return a.layout(c.Context(), args[0], o) },
	}
	o.add(c.Flags())
	completeLayout(c)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, sizes in bytes")
	return c
}

// layoutAnswer is the JSON of "layout".
type layoutAnswer struct {
	Repo     string          `json:"repo"`
	Layout   layoutReport    `json:"layout"`
	Files    []fileReport    `json:"files"`
	Problems []chain.Problem `json:"problems"`
	Indexing *chain.Progress `json:"indexing,omitempty"` // as in lsReport
}

func (a *app) layout(ctx context.Context, path string, o layoutOptions) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	src, root, err := a.openLayout(ctx, path, o, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	report := lsReport{Repo: root}
	if err := a.listAll(ctx, src, &report, true); err != nil {
		return err
	}
	answer := layoutAnswer{Repo: root, Layout: *report.Layout, Files: filesOf(report.Images, report.Problems), Problems: report.Problems, Indexing: report.Indexing}
	byPath(answer.Files)
	if o.json {
		err = writeJSON(a.stdout, answer)
	} else {
		err = a.printLayout(answer, report)
	}
	if err == nil && damaged(report.Problems) > 0 {
		err = exitCode(exitDamaged)
	}
	return err
}

// openLayout opens REPO or MOUNTPOINT as ls does, unless flags say what to try. That
// has an index of its own, in memory: the one on disk may be a mount's, and settling
// it for another layout would throw away what the chains of the usual one need. It
// costs reading the headers once more.
func (a *app) openLayout(ctx context.Context, path string, o layoutOptions, log *slog.Logger) (source, string, error) {
	if len(o.given()) == 0 {
		return a.openSource(ctx, path, "layout", o.repoFlags, log)
	}
	if err := o.check(); err != nil {
		return nil, "", err
	}
	resolved, mountpoint, err := findMount(path)
	if err != nil {
		return nil, "", err
	}
	if mountpoint != "" {
		if mountpoint != resolved {
			return nil, "", insideMount(resolved, mountpoint)
		}
		if resolved, err = repoOf(mountpoint); err != nil {
			return nil, "", err
		}
		// The file beside the index of that mount counts; of one that is gone it is
		// where --index says.
		if status, err := mountStatus(ctx, mountpoint); err == nil && o.index == "" {
			o.index = status.Daemon.Index
		}
	}
	repo, err := a.backend.OpenRepo(resolved, repoOptions{Log: log})
	if err != nil {
		return nil, "", err
	}
	src, err := a.tryLayout(ctx, repo, o, log)
	if err != nil {
		return nil, "", errors.Join(err, repo.Close())
	}
	return src, repo.Root(), nil
}

func (a *app) tryLayout(ctx context.Context, repo repository, o layoutOptions, log *slog.Logger) (source, error) {
	index, err := o.indexFolder(a.backend, repo)
	if err != nil {
		return nil, err
	}
	options, err := o.library(a.backend, repo, memoryIndex)
	if err != nil {
		return nil, err
	}
	if options.Layout, err = o.choose(index, repo.Root()); err != nil {
		return nil, err
	}
	session, err := openSession(ctx, repo, options, daemon.Owner{}, log) // which nobody sees: there is no lock
	if err != nil {
		return nil, err
	}
	return a.newOwnSource(session), nil
}

func (a *app) printLayout(answer layoutAnswer, report lsReport) error {
	a.printChoice(answer.Layout)
	if len(answer.Files) > 0 {
		fmt.Fprintln(a.stdout)
	}
	if len(answer.Files) == 0 && len(answer.Problems) == 0 {
		a.printNone(report)
		return nil
	}
	if err := a.printTable(answer.Files, fileColumns{image: true}); err != nil {
		return err
	}
	a.printIndexing(report)
	a.printProblems(report)
	return nil
}

// printChoice says which layout was taken, why, and what came of it.
func (a *app) printChoice(r layoutReport) {
	why := r.From
	if why == layoutDefault {
		why = "the default"
	}
	line := func(key, format string, args ...any) {
		fmt.Fprintf(a.stdout, "%-9s %s\n", key, printable(fmt.Sprintf(format, args...)))
	}
	line("layout", "%s (%s): %s", r.Layout, why, r.counts())
	if r.Layout == layout.Regex {
		line("regex", "%s", r.Pattern)
		line("image", "%s", r.Image)
		if r.Snapshot != "" {
			line("snapshot", "%s", r.Snapshot)
		}
	}
	if r.TrustNames {
		line("names", "trusted: suspicious links are followed")
	}
	if r.File != "" && r.File != r.From {
		line("file", "%s was read as well", r.File)
	}
}
