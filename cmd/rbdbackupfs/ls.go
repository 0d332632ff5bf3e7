package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"
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
)

type lsOptions struct {
	repoFlags
	json bool
}

const lsHelp = `ls lists the images and snapshots of a repository: the size of each snapshot,
what of it is allocated, how many backup files it is read from, and what the
links between them rest on:

    verified   both ends are in one file, or checksums vouch for it
    by name    the names agree; the formats carry nothing more
    link       --link says so

Below the table is a line for everything that is wrong: snapshots that are
withheld, files that are damaged, incomplete or of another format, and the cure.
The exit status is then 3.

With IMAGE it shows the backup files of that one as well, with IMAGE@SNAPSHOT
the whole chain of one snapshot.

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
  rbdbackupfs ls --json /srv/backup | jq '.images[].snapshots[].path'
  rbdbackupfs ls --link vm1/full-0101.img=0101 /srv/backup vm1`,
		Args: between(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.ls(c.Context(), args[0], "", o)
			}
			return a.ls(c.Context(), args[0], args[1], o)
		},
		ValidArgsFunction: a.completeImages,
	}
	o.add(c.Flags())
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, sizes in bytes")
	return c
}

// lsReport is the JSON of "ls".
type lsReport struct {
	Repo     string          `json:"repo"`
	Images   []imageReport   `json:"images"`
	Problems []chain.Problem `json:"problems"`
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
		err = a.listAll(ctx, src, &report)
	} else {
		err = a.listOne(ctx, src, &report, image)
	}
	if err != nil {
		return err
	}
	switch {
	case o.json:
		err = writeJSON(a.stdout, report)
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

func (a *app) listAll(ctx context.Context, src source, report *lsReport) error {
	err := src.Images(ctx, imageQuery{Wait: lsPatience}, func(img imageReport) error {
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
	report.Problems = status.Problems
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

func (a *app) printAll(report lsReport) error {
	if len(report.Images) == 0 && len(report.Problems) == 0 {
		fmt.Fprintf(a.stdout, "no backup files in %s\n", report.Repo)
		return nil
	}
	table := newTable(a.stdout, "IMAGE", "SNAPSHOT", "SIZE", "ALLOCATED", "DATE", "FILES", "LINK", "STATE")
	for _, img := range report.Images {
		for _, s := range img.Snapshots {
			table.row(cell(img.bytes()), snapshotCell(s), size(s.Size), size(s.Allocated), date(s.MTime),
				fmt.Sprint(s.Depth), string(s.Trust), snapshotState(img, s))
		}
		for _, p := range img.Problems {
			if p.Snapshot != "" && !p.Serving {
				table.row(cell(img.bytes()), cell(p.Snapshot), "-", "-", "-", "-", "-", "withheld: "+string(p.Kind))
			}
		}
		if img.State == chain.StatePending {
			table.row(cell(img.bytes()), "-", "-", "-", "-", "-", "-", "pending")
		}
	}
	if err := table.flush(); err != nil {
		return err
	}
	a.printProblems(report)
	return nil
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

func (a *app) printFiles(img imageReport) error {
	if len(img.Files) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	table := newTable(a.stdout, "FILE", "FORMAT", "SIZE", "DATE", "STATE", "STEPS")
	for _, f := range img.Files {
		var steps []string
		for _, link := range f.Links {
			step := cell(link.To)
			if link.From != "" {
				step = cell(link.From) + " -> " + step
			}
			steps = append(steps, step)
		}
		table.row(cell(f.Path), f.Format, size(f.Size), date(f.ModTime), f.State, strings.Join(steps, ", "))
	}
	return table.flush()
}

func (a *app) printProblems(report lsReport) {
	if len(report.Problems) > 0 {
		fmt.Fprintln(a.stdout)
	}
	for _, p := range report.Problems {
		fmt.Fprintln(a.stdout, problemLine(report.Repo, p))
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

// A table aligns its columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t table) flush() error { return t.w.Flush() }

// completeImages offers the images of a repository that is mounted: only then
// it is cheap.
func (a *app) completeImages(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	path, mountpoint, err := findMount(args[0])
	if err != nil || mountpoint != path {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := mountStatus(ctx, path)
	if err != nil || status.Daemon.Socket == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	src := &remoteSource{client: daemon.NewClient(status.Daemon.Socket)}
	defer src.client.Close()
	var names []string
	// Half a list is better than none.
	_ = src.Names(ctx, func(n nameReport) error {
		names = append(names, n.Name)
		return nil
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
