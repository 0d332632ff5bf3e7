package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/restore"
)

const jobsHelp = `jobs shows what is being restored, how far it has come, and how the last ones
have ended: what was written into MOUNTPOINT/import, and what "rbdbackupfs
restore" did.

    running, finishing   bytes are being written, or made durable
    undoing, failed      it failed; the image becomes, or is, what it was before
    done                 the image is restored
    broken               its process was killed, or couldn't undo it

Below the table is the reason for each one that failed. The exit status is 3
where one is broken. The next mount with the same --import ends such ones by
itself; --recover does it now, for all targets: what was whole gets its name,
anything else is undone.

It also works for a mount whose process is gone, and without any mount, from the
journal beside the index (say --index where that isn't in its usual place).`

type jobsOptions struct {
	repoFlags
	json, watch, recover bool
}

func (a *app) jobsCommand() *cobra.Command {
	var o jobsOptions
	c := &cobra.Command{
		Use:   "jobs MOUNTPOINT|REPO",
		Short: "Show what is being restored, and end what a crash left",
		Long:  jobsHelp,
		Example: `  rbdbackupfs jobs /mnt/backups
  rbdbackupfs jobs --watch /mnt/backups
  rbdbackupfs jobs --recover /srv/backup
  rbdbackupfs jobs --json /mnt/backups | jq '.[] | select(.state == "failed")'`,
		Args:              between(1, 1),
		RunE:              func(c *cobra.Command, args []string) error { return a.jobs(c.Context(), args[0], o) },
		ValidArgsFunction: completeMountpoints,
	}
	o.addIndex(c.Flags())
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, sizes in bytes")
	c.Flags().BoolVar(&o.watch, "watch", false, "show it again every second, until Ctrl-C or the end of the mount")
	c.Flags().BoolVar(&o.recover, "recover", false, "end what was interrupted: finish what was whole, undo the rest")
	return c
}

// A jobsPlace is where the restores of a repository are known.
type jobsPlace struct {
	root       string
	mountpoint string // empty without one that answers
	journal    restore.Journal
	client     *daemon.Client // nil for an index in memory
}

func (a *app) jobs(ctx context.Context, path string, o jobsOptions) error {
	if o.watch && o.recover {
		return usagef("--watch and --recover don't go together")
	}
	p, err := a.findJobs(ctx, path, o)
	if err != nil {
		return err
	}
	if p.client != nil {
		defer p.client.Close()
	}
	if o.recover {
		return a.recoverJobs(ctx, p)
	}
	if o.watch {
		return a.watch(ctx, func(w io.Writer) (any, error) {
			if p.mountpoint != "" && ended(p.mountpoint) {
				return nil, errOver
			}
			reports, err := p.list(ctx)
			if err != nil {
				return nil, err
			}
			return reports, a.showJobs(w, reports, o.json)
		})
	}
	reports, err := p.list(ctx)
	if err != nil {
		return err
	}
	if err := a.showJobs(a.stdout, reports, o.json); err != nil {
		return err
	}
	for _, r := range reports {
		if r.State == restore.StateBroken {
			return exitCode(exitDamaged)
		}
	}
	return nil
}

// findJobs finds the journal and the process that has it, if there is one. A mount
// that doesn't answer still tells which repository it showed.
func (a *app) findJobs(ctx context.Context, path string, o jobsOptions) (*jobsPlace, error) {
	resolved, mountpoint, err := findMount(path)
	if err != nil {
		return nil, err
	}
	if mountpoint != "" {
		if mountpoint != resolved {
			return nil, insideMount(resolved, mountpoint)
		}
		status, err := mountStatus(ctx, mountpoint)
		if err == nil {
			return newJobsPlace(status.Repo, mountpoint, status.Daemon.Index), nil
		}
		if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if resolved, err = repoOf(mountpoint); err != nil {
			return nil, err
		}
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	repo, err := a.backend.OpenRepo(resolved, repoOptions{Log: log})
	if err != nil {
		return nil, err
	}
	index, err := o.indexPlace(repo)
	if err := errors.Join(err, repo.Close()); err != nil {
		return nil, err
	}
	return newJobsPlace(repo.Root(), "", index), nil
}

func newJobsPlace(root, mountpoint, index string) *jobsPlace {
	p := &jobsPlace{root: root, mountpoint: mountpoint, journal: journalOf(index)}
	if index != memoryIndex {
		p.client = daemon.NewClient(daemon.SocketPath(index))
	}
	return p
}

// list asks the mount that has the index, and reads the journal where there is none.
func (p *jobsPlace) list(ctx context.Context) ([]restore.Report, error) {
	if p.client != nil {
		reports := []restore.Report{}
		err := p.client.Each(ctx, routeJobs, nil, func(text json.RawMessage) error {
			var r restore.Report
			err := json.Unmarshal(text, &r)
			reports = append(reports, r)
			return err
		})
		if !errors.Is(err, daemon.ErrNotRunning) {
			return reports, err
		}
	} else if p.mountpoint != "" {
		return nil, fmt.Errorf("the mount at %s has its index in memory, and keeps no journal; see: cat %[1]s/import/.jobs/*", p.mountpoint)
	}
	return listJobs(p.journal, nil)
}

func (a *app) showJobs(w io.Writer, reports []restore.Report, asJSON bool) error {
	if asJSON {
		return writeJSON(w, reports)
	}
	if len(reports) == 0 {
		fmt.Fprintln(w, "nothing was restored yet")
		return nil
	}
	table := newTable(w, "ID", "IMAGE", "KIND", "STATE", "FROM", "TO", "RECEIVED", "DATA", "STARTED", "TOOK")
	for _, r := range reports {
		table.row(r.ID, jobImage(r), orDash(r.Kind), string(r.State), snapshotOrDash(r.From), snapshotOrDash(r.To),
			received(r), size(r.Data), date(r.Started), a.took(r))
	}
	if err := table.flush(); err != nil {
		return err
	}
	for _, r := range reports {
		if r.Error != "" && r.State != restore.StateDone {
			fmt.Fprintf(w, "%s %s: %s\n", r.ID, jobImage(r), printable(strings.ReplaceAll(r.Error, "\n", "; ")))
		}
	}
	return nil
}

// jobImage is the image, or the one file that it went to.
func jobImage(r restore.Report) string {
	if path, found := strings.CutPrefix(r.Target, kindFile+":"); found {
		return cell(kindFolder + ":" + path)
	}
	return cell(r.Image)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func snapshotOrDash(name string) string {
	if name == "" {
		return "-"
	}
	return cell(name)
}

func received(r restore.Report) string {
	if r.Total == 0 {
		return size(r.Received)
	}
	// The total of a snapshot leaves out short holes that are read all the same.
	return size(min(r.Received, r.Total)) + " of " + size(r.Total)
}

// took is how long it took, or has been going on; nobody knows it of a process that
// was killed.
func (a *app) took(r restore.Report) string {
	end := r.Ended
	if end.IsZero() {
		if r.State == restore.StateBroken {
			return "-"
		}
		end = a.now()
	}
	return elapsed(end.Sub(r.Started))
}
