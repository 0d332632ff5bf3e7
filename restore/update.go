package restore

import (
	"errors"
	"log/slog"
	"syscall"

	"rbdbackupfs/internal/target"
)

// update opens an image that exists, for a diff. All that can be known before the
// first change is checked before it, in the order in which `rbd import-diff`
// would find it.
func (a *applier) update() error {
	a.record.updating(a.step.From, a.step.To)
	img, err := a.m.target.Open(a.ctx, a.record.target())
	if target.HasErrno(err, syscall.ENOENT) && a.step.HasFrom {
		return refuse(a.name, syscall.ENOENT, "Restore the full export of the image first, and then the diffs in their order",
			"a diff from snapshot %q needs the image, and there is none", a.step.From)
	}
	if err != nil {
		return err
	}
	if err := a.check(img); err != nil {
		return errors.Join(err, img.Close())
	}
	if err := a.record.guard(a.m.journal, func(*target.Job) {}); err != nil {
		return errors.Join(err, img.Close())
	}
	a.useImage(img)
	a.sink.blank = !a.step.HasFrom && !a.m.force
	return img.Guard(a.ctx)
}

// check refuses a diff that doesn't fit the image. Nothing is changed by it. That
// the diff was applied before is said first: a raw file knows no more than the
// snapshot it is at.
func (a *applier) check(img target.Image) error {
	if a.step.HasTo {
		if err := a.checkNoSnapshot(img, a.step.To); err != nil {
			return err
		}
	}
	if a.step.HasFrom {
		has, err := img.HasSnapshot(a.ctx, a.step.From)
		if err != nil {
			return err
		}
		if !has {
			return refuse(a.name, syscall.EINVAL, "Restore the export that ends there first, or see: rbd snap ls "+a.name.String(),
				"the image has no snapshot %q, from which the diff starts", a.step.From)
		}
	}
	if a.step.HasTo {
		if err := a.checkRoom(img); err != nil {
			return err
		}
	}
	if err := img.Lock(a.ctx); err != nil {
		return err
	}
	if a.m.force {
		a.log.Warn("what the image holds isn't checked: --force-import", slog.String("image", a.name.String()))
		return nil
	}
	if !a.step.HasFrom {
		return a.checkEmpty(img)
	}
	same, err := img.Unchanged(a.ctx, a.step.From)
	if err != nil {
		return err
	}
	if !same {
		return refuse(a.name, syscall.EINVAL,
			"Roll it back first (rbd snap rollback "+a.name.String()+"@"+a.step.From+"), or mount with --force-import if the diff is to go onto what is there",
			"the image has changed since snapshot %q, from which the diff starts", a.step.From)
	}
	return nil
}

// checkNoSnapshot refuses a snapshot that is there already.
func (j *Job) checkNoSnapshot(img target.Image, name string) error {
	has, err := img.HasSnapshot(j.ctx, name)
	if err == nil && has {
		err = refuse(j.name, syscall.EEXIST, "It was restored already, or is another one of that name",
			"the image has the snapshot %q, at which the diff ends", name)
	}
	return err
}

func (a *applier) checkRoom(img target.Image) error {
	room, err := img.SnapshotRoom(a.ctx)
	if err == nil && room == 0 {
		err = refuse(a.name, syscall.EDQUOT, "Remove snapshots, or raise the limit: rbd snap limit set",
			"the image can have no more snapshots")
	}
	return err
}

// checkEmpty refuses a full diff onto an image with something in it: what the
// diff doesn't mention would stay.
func (a *applier) checkEmpty(img target.Image) error {
	empty, err := img.Empty(a.ctx)
	if err == nil && !empty {
		err = refuse(a.name, syscall.EEXIST, "Choose another name, or remove that image first",
			"the image exists and isn't empty, and the diff is a full one")
	}
	return err
}
