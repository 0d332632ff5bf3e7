package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rbdbackupfs/chain"
)

// shownProblems is how many "status" shows; "ls" shows all.
const shownProblems = 20

type statusOptions struct{ json, watch bool }

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status MOUNTPOINT",
		Short: "Show what a mount indexes, serves and finds damaged",
		Long: `status shows what a running mount indexes and serves, what it finds damaged, and
who it is. The same is in MOUNTPOINT/status.json. The exit status is 3 where
something in the repository is damaged or incomplete.`,
		Example: `  rbdbackupfs status /mnt/backups
  rbdbackupfs status --watch /mnt/backups
  rbdbackupfs status --json /mnt/backups | jq .progress`,
		Args:              between(1, 1),
		RunE:              func(c *cobra.Command, args []string) error { return a.status(c.Context(), args[0], o) },
		ValidArgsFunction: completeMountpoints,
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON: what status.json holds")
	c.Flags().BoolVar(&o.watch, "watch", false, "show it again every second, until Ctrl-C or the end of the mount")
	return c
}

func (a *app) status(ctx context.Context, path string, o statusOptions) error {
	mountpoint, err := findMountpoint(path)
	if err != nil {
		return err
	}
	if o.watch {
		return a.watchStatus(ctx, mountpoint, o)
	}
	report, err := mountStatus(ctx, mountpoint)
	if err != nil {
		return err
	}
	if err := a.showStatus(a.stdout, report, o); err != nil {
		return err
	}
	if damaged(report.Problems) > 0 {
		return exitCode(exitDamaged)
	}
	return nil
}

// watchStatus ends with the mount.
func (a *app) watchStatus(ctx context.Context, mountpoint string, o statusOptions) error {
	return a.watch(ctx, func(w io.Writer) (any, error) {
		report, err := mountStatus(ctx, mountpoint)
		if ended(mountpoint) {
			return nil, errOver
		}
		if err != nil {
			return nil, err
		}
		return report, a.showStatus(w, report, o)
	})
}

func (a *app) showStatus(w io.Writer, report statusReport, o statusOptions) error {
	if o.json {
		return writeJSON(w, report)
	}
	d, p, c := report.Daemon, report.Progress, report.Counters
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", key, printable(fmt.Sprintf(format, args...)))
	}
	row("repository", "%s", report.Repo)
	row("mounted at", "%s by pid %d, version %s, up %s", d.Mountpoint, d.PID, d.Version, a.now().Sub(d.Started).Round(time.Second))
	row("index", "%s", d.Index)
	if d.Log != "" {
		row("log", "%s", d.Log)
	}
	row("images", "%s, %s%s", count(report.Images, "image"), count(report.Snapshots, "snapshot"), pending(report.Pending))
	row("files", "%s, %s", count(report.Files, "file"), size(report.Bytes))
	row("layout", "%s", report.Layout)
	row("indexing", "%s", indexing(p))
	row("reads", "%d (%s), %d in error, %d index lookups", c.Reads, size(int64(c.ReadBytes)), c.ReadErrors, c.Lookups)
	if i := report.Imports; i != nil {
		row("imports", "to %s: %d running, %d done, %d failed%s", i.Target, i.Running, i.Done, i.Failed, broken(i.Broken))
	}
	if s := report.Scratch; s != nil && len(s.Files) > 0 {
		row("scratch", "%s of at most %s, in %s", size(s.Used), size(s.Limit), count(len(s.Files), "file"))
	}
	problems, _ := withoutSideCars(report.Problems)
	row("problems", "%d", len(problems))
	if err := table.Flush(); err != nil {
		return err
	}
	for i, problem := range problems {
		if i == shownProblems {
			fmt.Fprintf(w, "  ... and %d more; see: rbdbackupfs ls %s\n", len(problems)-i, d.Mountpoint)
			break
		}
		fmt.Fprintf(w, "  %s\n", problemLine(report.Repo, problem))
	}
	if report.Scratch != nil {
		for _, file := range report.Scratch.Files {
			if file.Withheld != "" {
				fmt.Fprintf(w, "  %s\n", printable(file.line(d.Mountpoint)))
			}
		}
	}
	return nil
}

func broken(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d to be recovered; see: rbdbackupfs jobs", n)
}

func pending(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %s not read yet", count(n, "image"))
}

func indexing(p chain.Progress) string {
	switch {
	case p.Idle:
		return "done"
	case !p.Listed:
		return "listing the folders"
	}
	line := fmt.Sprintf("%d of %d files, %d of %d steps", p.FilesDone, p.FilesTotal, p.StepsDone, p.StepsTotal)
	if p.BytesDone < p.BytesTotal {
		line += fmt.Sprintf(", %s of %s that are compressed", size(p.BytesDone), size(p.BytesTotal))
	}
	if p.Now != "" {
		line += ", now " + p.Now
	}
	return line
}
