package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
)

// nameDamage adds to a read error which backup file is damaged: a file of a mount
// says no more than EIO. The mount finds the damage itself, a moment later.
func (r *restoring) nameDamage(ctx context.Context, err error) error {
	remote, ok := r.src.(*remoteSource)
	if !ok || !errors.Is(err, unix.EIO) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		if lines := r.problems(ctx, chain.KindDamaged); lines != nil {
			return fmt.Errorf("%w; %s", err, strings.Join(lines, "; "))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; the log of the mount names the file, see: rbdbackupfs status %s", err, remote.mountpoint)
		}
	}
}

// warn says of a snapshot that something speaks against it.
func (r *restoring) warn(ctx context.Context) {
	suspicious := func(p pathReport) bool { return p.Step.Trust == chain.TrustSuspicious }
	if !slices.ContainsFunc(r.path, suspicious) {
		return
	}
	for _, line := range r.problems(ctx, chain.KindSuspicious) {
		fmt.Fprintln(r.app.stderr, "warning: "+line)
	}
}

// problems are those of a kind with the files that are read.
func (r *restoring) problems(ctx context.Context, kind chain.Kind) (lines []string) {
	query := imageQuery{Name: r.image, Snapshot: r.path[len(r.path)-1].Label, Wait: answerPatience}
	asked := r.src.Images(ctx, query, func(img imageReport) error {
		for _, p := range img.Problems {
			if p.Kind == kind {
				lines = append(lines, problemLine(r.root, p))
			}
		}
		return nil
	})
	if asked != nil {
		return nil
	}
	return lines
}
