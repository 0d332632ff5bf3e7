//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

const (
	// OSDs keep a killed client's watchers for 30 seconds (osd_client_watch_timeout),
	// and count them as users of the image. Who watches for longer than patience is
	// alive.
	patience = 90 * time.Second
	retryGap = 250 * time.Millisecond
)

// Recover ends a job whose process was killed. All it goes by is the job and what
// is in the cluster:
//
//	new image   temporary name there     Complete: rename it; else remove it
//	            not there                Complete: is there an image of its name?
//	update      guard there              Complete: lift it; else undo
//	            not there                nothing was changed, or all was ended
func (t *Target) Recover(ctx context.Context, job *target.Job) (bool, error) {
	const op = "recover"
	var restored bool
	var err error
	if job.Update {
		restored, err = t.recoverUpdate(ctx, job)
	} else {
		restored, err = t.recoverNew(ctx, job)
	}
	if errors.Is(err, errLostGuard) {
		err = &target.Error{
			Op: op, Name: job.Image.String(), Errno: syscall.EIO, Err: err,
			Hint: "Restore the image anew; `rbd image-meta remove` " + noteKey(job) + " ends this",
		}
	}
	return restored, failure(op, job.Image.String(), err)
}

func (t *Target) recoverNew(ctx context.Context, job *target.Job) (bool, error) {
	if !job.Complete {
		return false, t.removeWaiting(ctx, temporary(job))
	}
	err := t.rename(ctx, job)
	if errnoOf(err) != syscall.ENOENT {
		return err == nil, err
	}
	found, err := t.Exists(ctx, job.Image)
	if target.HasErrno(err, syscall.ENOENT) {
		return false, nil
	}
	return found, err
}

func (t *Target) recoverUpdate(ctx context.Context, job *target.Job) (bool, error) {
	im, err := t.opened(ctx, job, job.Image, toLook)
	if errnoOf(err) == syscall.ENOENT {
		return false, nil // somebody removed it
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = im.h.close() }()
	g, err := im.h.findGuard(ctx, job)
	if job.Complete && (err == nil || errors.Is(err, errLostGuard)) {
		return true, t.liftLater(ctx, job, g)
	}
	if err != nil || g == nil {
		return false, err
	}
	if err := t.whileBusy(ctx, job.Image, func() error { return im.Lock(ctx) }); err != nil {
		return false, err
	}
	return false, im.h.undo(ctx, im.name, job, g)
}

// liftLater takes away the guard of an image that somebody may use by now.
func (t *Target) liftLater(ctx context.Context, job *target.Job, g *guard) error {
	if g == nil {
		return nil
	}
	return t.whileBusy(ctx, job.Image, func() error {
		h, err := t.conn.open(ctx, job.Image, rbd.NoSnapshot, toWrite)
		if err != nil {
			return err
		}
		return errors.Join(h.lift(ctx, job, g), h.close())
	})
}

// removeWaiting removes an image that a dead client may still seem to use.
func (t *Target) removeWaiting(ctx context.Context, name target.Name) error {
	return t.whileBusy(ctx, name, func() error { return t.remove(ctx, name) })
}

// remove removes an image with its snapshots. That there is none is fine, also
// when its pool is gone.
func (t *Target) remove(ctx context.Context, name target.Name) error {
	_, err := inPool(ctx, t.conn, name, func(io *rados.IOContext) (struct{}, error) {
		if err := purge(io, name); err != nil && errnoOf(err) != syscall.ENOENT {
			return struct{}{}, err
		}
		// Where Create was cut off there may be a name without an image, which
		// can't be opened, and is removed by this as well.
		err := rbd.RemoveImage(io, name.Image)
		if errnoOf(err) != syscall.ENOENT {
			return struct{}{}, err
		}
		// In a full pool librbd says that there is no image and leaves it there,
		// when it finds no room for its trash.
		found, err := imageExists(io, name.Image)
		if found {
			err = &target.Error{
				Op: "remove", Name: name.String(), Errno: syscall.ENOSPC, Err: errFull, Hint: fullHint,
			}
		}
		return struct{}{}, err
	})
	if errnoOf(err) == syscall.ENOENT {
		return nil
	}
	return err
}

// purge removes the snapshots, which needs the image to itself.
func purge(io *rados.IOContext, name target.Name) error {
	img, err := rbd.OpenImageReadOnly(io, name.Image, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	list, err := img.GetSnapshotNames()
	var watchers []rbd.ImageWatcher
	if err == nil {
		watchers, err = img.ListWatchers()
	}
	if err := errors.Join(err, img.Close()); err != nil || len(list) == 0 {
		return err
	}
	if len(watchers) > 0 {
		var others []string
		for _, w := range watchers {
			others = append(others, w.Addr)
		}
		return busy("remove", name.String(), others)
	}
	img, err = rbd.OpenImage(io, name.Image, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err = drop(img, s.Name); err != nil {
			break
		}
	}
	return errors.Join(err, img.Close())
}

// whileBusy tries again while the image is in use.
func (t *Target) whileBusy(ctx context.Context, name target.Name, try func() error) error {
	ticker := time.NewTicker(retryGap)
	defer ticker.Stop()
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for first := true; ; first = false {
		err := try()
		if errnoOf(err) != syscall.EBUSY && !target.HasErrno(err, syscall.EBUSY) {
			return err
		}
		if first {
			t.log.Info("waiting until nobody uses the image", slog.String("image", name.String()), slog.Any("reason", err))
		}
		select {
		case <-ticker.C:
		case <-enough.C:
			return err
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
