package main

import (
	"context"
	"errors"
	"fmt"
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
		if lines := r.damage(ctx, remote); lines != "" {
			return fmt.Errorf("%w%s", err, lines)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; the log of the mount names the file, see: rbdbackupfs status %s", err, remote.mountpoint)
		}
	}
}

// damage is what the mount finds wrong with the files that are read.
func (r *restoring) damage(ctx context.Context, src source) (lines string) {
	query := imageQuery{Name: r.image, Snapshot: r.path[len(r.path)-1].Label, Wait: answerPatience}
	asked := src.Images(ctx, query, func(img imageReport) error {
		for _, p := range img.Problems {
			if p.Kind == chain.KindDamaged {
				lines += "; " + problemLine(r.root, p)
			}
		}
		return nil
	})
	if asked != nil {
		return ""
	}
	return lines
}
