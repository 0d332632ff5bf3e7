//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// A guard says how an image becomes again what it was. It is found in the cluster,
// never remembered: so Recover finds what Abort would have found.
//
// Its usual form is a safety snapshot, named after the job. Where a limit leaves
// no room for one, the job's start snapshot stands in: nothing changed since, so it
// says the same. That is noted in the image-meta, since the start snapshot alone
// doesn't tell whether the job had begun: without the note, Recover would throw
// away what others wrote if the job had not.
//
// Snapshots with an id above newest are younger than the guard. Those of them that
// carry a name of the job are the job's own.
type guard struct {
	snapshot string
	newest   uint64
	noted    bool
}

func safetyName(job *target.Job) string { return "rbdbackupfs-safety-" + job.ID }

func noteKey(job *target.Job) string { return "rbdbackupfs-guard-" + job.ID }

// errLostGuard: nothing tells any more what the image was.
var errLostGuard = errors.New("the start snapshot, which the image was to be rolled back to, was removed")

// findGuard looks for the guard of a job; nil when there is none. With errLostGuard
// it can only be lifted.
func (h *handle) findGuard(ctx context.Context, job *target.Job) (*guard, error) {
	safety, ok, err := h.snapshot(ctx, safetyName(job))
	if err != nil {
		return nil, err
	}
	if ok {
		return &guard{snapshot: safety.Name, newest: safety.Id}, nil
	}
	var note string
	err = h.call(ctx, func(img *rbd.Image) error {
		text, err := img.GetMetadata(noteKey(job))
		note = text
		return err
	})
	if errnoOf(err) == syscall.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := &guard{snapshot: string(job.From), noted: true}
	var id uint64
	if _, err := fmt.Sscanf(note, "%d %d", &id, &g.newest); err != nil {
		return nil, fmt.Errorf("image-meta %s: %w", noteKey(job), err)
	}
	if from, ok, err := h.snapshot(ctx, g.snapshot); err != nil || !ok || from.Id != id {
		return g, errors.Join(errLostGuard, err)
	}
	return g, nil
}

// Guard takes the safety snapshot, or lets the start snapshot stand in for it.
func (im *image) Guard(ctx context.Context) error {
	const op = "guard"
	if im.guarded || im.created {
		return nil
	}
	room, err := im.SnapshotRoom(ctx)
	if err != nil {
		return err
	}
	wanted := len(im.job.To)
	switch {
	case room < 0 || room > wanted:
		err = im.take(ctx, safetyName(im.job))
	case room == wanted && len(im.job.From) > 0:
		err = im.note(ctx)
	default:
		err = &target.Error{
			Op: op, Name: im.String(), Errno: syscall.EDQUOT,
			Err:  fmt.Errorf("the image's limit leaves room for %d snapshots, and %d are needed", room, wanted+1),
			Hint: "See `rbd snap limit set`",
		}
	}
	if err != nil {
		return snapshotFailure(op, im.String(), err)
	}
	im.guarded = true
	return nil
}

// note lets the start snapshot stand in.
func (im *image) note(ctx context.Context) error {
	from := string(im.job.From)
	same, err := im.h.unchanged(ctx, im.name, from)
	if err != nil {
		return err
	}
	if !same {
		return &target.Error{
			Op: "guard", Name: im.String(), Errno: syscall.EDQUOT,
			Err:  errors.New("the image changed since the start snapshot, and its limit leaves no room for a safety snapshot"),
			Hint: "See `rbd snap limit set`",
		}
	}
	list, err := im.h.snapshots(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s rbd.SnapInfo) bool { return s.Name == from })
	if i < 0 {
		return errLostGuard
	}
	text := fmt.Sprintf("%d %d", list[i].Id, list[len(list)-1].Id)
	return im.h.call(ctx, func(img *rbd.Image) error { return img.SetMetadata(noteKey(im.job), text) })
}

// lift takes the guard away: what the image is now stays.
func (h *handle) lift(ctx context.Context, job *target.Job, g *guard) error {
	return h.call(ctx, func(img *rbd.Image) error {
		if g.noted {
			return img.RemoveMetadata(noteKey(job))
		}
		return drop(img, g.snapshot)
	})
}

// undo makes the image what it was when it was guarded, and takes the guard away.
// Cut off anywhere, it can be done again.
func (h *handle) undo(ctx context.Context, name target.Name, job *target.Job, g *guard) error {
	list, err := h.snapshots(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		mine := slices.ContainsFunc(job.To, func(to []byte) bool { return string(to) == s.Name })
		if !mine || s.Id <= g.newest {
			continue
		}
		if err := h.call(ctx, func(img *rbd.Image) error { return drop(img, s.Name) }); err != nil {
			return err
		}
	}
	if err := h.rollback(ctx, name, g.snapshot); err != nil {
		return err
	}
	return h.lift(ctx, job, g)
}

// rollback makes HEAD what it was at a snapshot. A clone that was cut shows less of
// its parent for good, but before librbd cuts an image with snapshots it copies what
// they show of the parent into objects of their own, which a rollback brings back.
func (h *handle) rollback(ctx context.Context, name target.Name, snapshot string) error {
	same, err := h.unchanged(ctx, name, snapshot)
	if err != nil || same {
		return err
	}
	return h.call(ctx, func(img *rbd.Image) error { return img.GetSnapshot(snapshot).Rollback() })
}

// Commit gives a new image its name, or takes the guard of another one away.
func (im *image) Commit(ctx context.Context) error {
	const op = "commit"
	if err := im.Flush(ctx); err != nil || im.committed {
		return err
	}
	var err error
	if !im.created {
		err = im.h.commitUpdate(ctx, im.job)
	} else {
		err = im.t.rename(ctx, im.job)
	}
	if err != nil {
		return dataFailure(op, im.String(), err)
	}
	im.name, im.committed = im.job.Image, true
	return nil
}

func (h *handle) commitUpdate(ctx context.Context, job *target.Job) error {
	g, err := h.findGuard(ctx, job)
	if err != nil && !errors.Is(err, errLostGuard) {
		return err
	}
	if g == nil {
		return nil
	}
	return h.lift(ctx, job, g)
}

// rename gives a new image its name.
func (t *Target) rename(ctx context.Context, job *target.Job) error {
	_, err := inPool(ctx, t.conn, job.Image, func(io *rados.IOContext) (struct{}, error) {
		return struct{}{}, rbd.GetImage(io, temporary(job).Image).Rename(job.Image.Image)
	})
	if errnoOf(err) == syscall.EEXIST {
		return &target.Error{
			Op: "commit", Name: job.Image.String(), Errno: syscall.EEXIST,
			Err:  errors.New("an image of that name came up meanwhile"),
			Hint: "The restored one is " + temporary(job).String(),
		}
	}
	return err
}

// Abort undoes everything, and closes.
func (im *image) Abort(ctx context.Context) error {
	const op = "abort"
	err := im.h.settle(ctx)
	if im.created {
		// Removing an image needs nobody to have it open.
		_ = im.h.close()
		if err == nil {
			err = im.t.removeWaiting(ctx, im.name)
		}
		return failure(op, im.String(), err)
	}
	if err == nil && im.writable {
		err = im.undo(ctx)
	}
	return errors.Join(dataFailure(op, im.String(), err), im.Close())
}

func (im *image) undo(ctx context.Context) error {
	g, err := im.h.findGuard(ctx, im.job)
	if err != nil || g == nil {
		return err
	}
	return im.h.undo(ctx, im.name, im.job, g)
}
