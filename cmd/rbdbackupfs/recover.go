package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rbdbackupfs/restore"
)

// recoverJobs ends what was interrupted, one target after the other, and prints a
// line for each. A mount that runs then learns of it.
func (a *app) recoverJobs(ctx context.Context, p *jobsPlace) error {
	left, err := p.journal.Interrupted()
	if err != nil {
		return err
	}
	if len(left) == 0 {
		fmt.Fprintln(a.stdout, "nothing is to be recovered")
		return nil
	}
	var targets []string
	byTarget := make(map[string][]restore.Report)
	for _, r := range left {
		if byTarget[r.Target] == nil {
			targets = append(targets, r.Target)
		}
		byTarget[r.Target] = append(byTarget[r.Target], r)
	}
	var errs []error
	for _, where := range targets {
		errs = append(errs, a.recoverAt(ctx, p, where, byTarget[where]))
	}
	if p.client != nil {
		// Who lists them reads the journal anew; without a mount nobody has to.
		_, err := p.list(ctx)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// recoverAt ends the ones of one target.
func (a *app) recoverAt(ctx context.Context, p *jobsPlace, where string, left []restore.Report) error {
	parsed, err := parseTarget(where)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	to, err := a.backend.OpenTarget(ctx, parsed, log)
	if err != nil {
		return fmt.Errorf("%s to %s can't be ended: %w", count(len(left), "restore"), where, err)
	}
	ended := make(chan error, 1)
	lines := make(chan string)
	go func() {
		defer close(lines)
		ended <- p.journal.Recover(ctx, to, func(r restore.Report, err error) { lines <- recovered(r, err) })
	}()
	a.showRecovery(where, left, lines)
	return errors.Join(<-ended, to.Close())
}

// showRecovery prints the lines, and meanwhile what is waited for: in a cluster that
// may be what the killed process still holds.
func (a *app) showRecovery(where string, left []restore.Report, lines <-chan string) {
	bar := a.progress("recovering")
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for done := 0; ; {
		select {
		case line, more := <-lines:
			if !more {
				bar.Finish(true)
				return
			}
			done++
			if line != "" {
				fmt.Fprintln(a.stdout, printable(line))
			}
		case <-tick.C:
			if done < len(left) {
				bar.Update(int64(done), int64(len(left)), "restores", printable(left[done].Image+" in "+where))
			}
		}
	}
}

// recovered is the line on one; errors come in the end.
func recovered(r restore.Report, err error) string {
	switch {
	case err != nil:
		return ""
	case r.State == restore.StateDone:
		return fmt.Sprintf("%s %s: finished; it was complete", r.ID, jobImage(r))
	case r.State == restore.StateFailed:
		return fmt.Sprintf("%s %s: undone", r.ID, jobImage(r))
	}
	return fmt.Sprintf("%s %s: another process is recovering it", r.ID, jobImage(r))
}
