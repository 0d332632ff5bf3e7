package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
)

const (
	// lsPatience is how long a running mount may take with chains that aren't
	// known yet: for the list of everything, and for one image.
	lsPatience      = 2 * time.Second
	lsImagePatience = 30 * time.Second

	// shownSideCars is how many files that are no backups are named.
	shownSideCars = 3
)

type lsOptions struct {
	repoFlags
	json, files bool
}

const lsHelp = `ls lists the images and snapshots of a repository: the size of each snapshot,
what of it is allocated, how many backup files it is read from, and what the
links between them rest on:

    verified    both ends are in one file, it is full, or checksums vouch for it
    by name     the names agree; the formats carry nothing more
    suspicious  the names agree, and something speaks against it: what builds
                on it is withheld until --link or --trust-names says it is right
    link        you said so, with --link or in ` + layoutFileName + `

Below the table is a line for everything that is wrong: snapshots that are
withheld, files that are damaged, incomplete or of another format, and the cure.
The exit status is then 3. Checksums, notes and the like are no backups: they
are left alone, and one line names some of them.

With IMAGE it shows the backup files of that one as well, with IMAGE@SNAPSHOT
the whole chain of one snapshot, with --files all backup files of all images. A
file has a line for each step in it, FROM a snapshot TO the next. KNOWN BY is
how the name of TO is known: from the file's header, from its name, inferred
(others need it, and it occurs in the file's path), or by a link. "rbdbackupfs
layout" explains the layout, and tries others.

While the repository is mounted, ls asks the running mount. Otherwise it reads
the headers of new files first, which it remembers in the index.`

func (a *app) lsCommand() *cobra.Command {
	var o lsOptions
	c := &cobra.Command{
		Use:   "ls REPO|MOUNTPOINT [IMAGE[@SNAPSHOT]]",
		Short: "List images and snapshots, and what is wrong with the rest",
		Long:  lsHelp,
		Example: `  rbdbackupfs ls /srv/backup
  rbdbackupfs ls /mnt/backups rbd/vm1
  rbdbackupfs ls /srv/backup rbd/vm1@monday
  rbdbackupfs ls --files /srv/backup
  rbdbackupfs ls --json /srv/backup | jq '.images[].snapshots[].path'
  rbdbackupfs ls --link vm1/full-0101.img=0101 /srv/backup vm1`,
		Args: between(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.ls(c.Context(), args[0], "", o)
			}
			if o.files {
				return usagef("--files is for all images; those of %s are shown without it", args[1])
			}
			return a.ls(c.Context(), args[0], args[1], o)
		},
		ValidArgsFunction: a.completeImages,
	}
	o.add(c.Flags())
	completeLayout(c)
	c.Flags().BoolVar(&o.files, "files", false, "list backup files, not snapshots")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, sizes in bytes")
	return c
}

// lsReport is the JSON of "ls".
type lsReport struct {
	Repo     string          `json:"repo"`
	Layout   *layoutReport   `json:"layout,omitempty"` // of all images only
	Images   []imageReport   `json:"images"`
	Problems []chain.Problem `json:"problems"`
	// Indexing is how far a mount has come that doesn't know all of this yet.
	Indexing *chain.Progress `json:"indexing,omitempty"`
}

func (a *app) ls(ctx context.Context, path, image string, o lsOptions) (err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	src, root, err := a.openSource(ctx, path, "ls", o.repoFlags, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	report := lsReport{Repo: root, Images: []imageReport{}, Problems: []chain.Problem{}}
	if image == "" {
		err = a.listAll(ctx, src, &report, o.files)
	} else {
		err = a.listOne(ctx, src, &report, image)
	}
	if err != nil {
		return err
	}
	switch {
	case o.json:
		err = writeJSON(a.stdout, report)
	case o.files:
		err = a.printAllFiles(report)
	case image == "":
		err = a.printAll(report)
	default:
		err = a.printOne(report)
	}
	if err == nil && damaged(report.Problems) > 0 {
		err = exitCode(exitDamaged)
	}
	return err
}

func (a *app) listAll(ctx context.Context, src source, report *lsReport, files bool) error {
	err := src.Images(ctx, imageQuery{Wait: lsPatience, Files: files}, func(img imageReport) error {
		report.Images = append(report.Images, img)
		return nil
	})
	if err != nil {
		return err
	}
	status, err := src.Status(ctx)
	if err != nil {
		return err
	}
	report.Problems, report.Layout = status.Problems, &status.Layout
	unknown := len(report.Images) == 0 && status.Files > 0
	for _, img := range report.Images {
		unknown = unknown || img.State == chain.StatePending
	}
	if p := status.Progress; !p.Idle && (unknown || !p.Listed) {
		report.Indexing = &p
	}
	return nil
}

// listOne takes image for a name, and then for IMAGE@SNAPSHOT at each '@':
// both may hold one.
func (a *app) listOne(ctx context.Context, src source, report *lsReport, image string) error {
	image = strings.TrimRight(image, "/") // as the shell completes folders
	query := imageQuery{Name: image, Wait: lsImagePatience}
	for at := len(image); ; {
		found := false
		err := src.Images(ctx, query, func(img imageReport) error {
			if found = query.Snapshot == "" || len(img.Snapshots) > 0 || withheld(img, query.Snapshot); found {
				report.Images = append(report.Images, img)
				report.Problems = img.Problems
			}
			return nil
		})
		if found || err != nil && !isNotFound(err) {
			return err
		}
		if at = strings.LastIndexByte(image[:at], '@'); at < 0 {
			return fmt.Errorf("there is no %s in %s; see: rbdbackupfs ls %s", image, report.Repo, report.Repo)
		}
		query.Name, query.Snapshot = image[:at], image[at+1:]
	}
}

func isNotFound(err error) bool {
	status := (*daemon.StatusError)(nil)
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

func withheld(img imageReport, snapshot string) bool {
	for _, p := range img.Problems {
		if p.Snapshot == snapshot {
			return true
		}
	}
	return false
}

func (a *app) printOne(report lsReport) error {
	for _, img := range report.Images {
		fmt.Fprintf(a.stdout, "image   %s\nfolder  %s\n", cell(img.bytes()), img.Folder)
		if img.Latest != "" {
			fmt.Fprintf(a.stdout, "latest  %s\n", cell(img.Latest))
		}
		if img.State == chain.StatePending {
			fmt.Fprintln(a.stdout, "state   pending: its files are being read")
		}
		if err := errors.Join(a.printSnapshots(img), a.printChain(img), a.printFiles(img)); err != nil {
			return err
		}
	}
	a.printProblems(report)
	return nil
}

func (a *app) printSnapshots(img imageReport) error {
	if len(img.Snapshots) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	table := newTable(a.stdout, "SNAPSHOT", "SIZE", "ALLOCATED", "DATE", "FILES", "LINK", "FROM", "STATE", "FILE")
	for _, s := range img.Snapshots {
		from := "-"
		if s.Depth > 1 {
			from = cell(s.Parent)
		}
		table.row(snapshotCell(s), size(s.Size), size(s.Allocated), date(s.MTime), fmt.Sprint(s.Depth),
			string(s.Trust), from, snapshotState(img, s), cell(s.Step.File))
	}
	return table.flush()
}

// printChain shows the whole chain of the one snapshot that was asked for.
func (a *app) printChain(img imageReport) error {
	if len(img.Snapshots) != 1 || len(img.Snapshots[0].Chain) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	table := newTable(a.stdout, "STEP", "FROM", "TO", "LINK", "DATA", "ALTERNATIVES", "FILE")
	for i, link := range img.Snapshots[0].Chain {
		from := "-"
		if i > 0 {
			from = cell(link.From)
		}
		table.row(fmt.Sprint(i+1), from, cell(link.To), string(link.Trust), size(link.Bytes), fmt.Sprint(link.Alts), cell(link.File))
	}
	return table.flush()
}

// printProblems prints a line for each problem, and one for all files that are no
// backups: there may be a checksum beside each that is one.
func (a *app) printProblems(report lsReport) {
	if len(report.Problems) > 0 {
		fmt.Fprintln(a.stdout)
	}
	wrong, beside := withoutSideCars(report.Problems)
	for _, p := range wrong {
		fmt.Fprintln(a.stdout, problemLine(report.Repo, p))
	}
	if len(beside) > 0 {
		line := "no backups, left alone: " + strings.Join(beside[:min(len(beside), shownSideCars)], ", ")
		if more := len(beside) - shownSideCars; more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintln(a.stdout, printable(line))
	}
}

// problemLine is one problem, with the absolute path of its file.
func problemLine(root string, p chain.Problem) string {
	if p.File != "" {
		p.File = filepath.Join(root, p.File)
	}
	return printable(p.String())
}

func snapshotCell(s snapshotReport) string {
	if s.Label == s.Name {
		return cell(s.bytes())
	}
	return cell(s.Label)
}

func snapshotState(img imageReport, s snapshotReport) string {
	state := "ok"
	if s.Damaged {
		state = string(chain.KindDamaged)
	}
	for _, p := range img.Problems {
		if p.Serving && p.Snapshot == s.Label {
			state = string(p.Kind)
		}
	}
	if s.Label == img.Latest {
		state += ", latest"
	}
	return state
}
