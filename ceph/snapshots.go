//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// snapshots lists the image's snapshots, oldest first. Those in the trash are among
// them: they count for the quota.
func (h *handle) snapshots(ctx context.Context) ([]rbd.SnapInfo, error) {
	var list []rbd.SnapInfo
	err := h.call(ctx, func(img *rbd.Image) error {
		got, err := img.GetSnapshotNames()
		if err != nil {
			return err
		}
		slices.SortFunc(got, byID)
		list = got
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// snapshot finds a snapshot; ok is false when there is none of that name.
func (h *handle) snapshot(ctx context.Context, name string) (info rbd.SnapInfo, ok bool, err error) {
	list, err := h.snapshots(ctx)
	if err != nil {
		return rbd.SnapInfo{}, false, err
	}
	i := slices.IndexFunc(list, func(s rbd.SnapInfo) bool { return s.Name == name })
	if i < 0 {
		return rbd.SnapInfo{}, false, nil
	}
	return list[i], true, nil
}

// HasSnapshot tells whether there is a snapshot of that name.
func (im *image) HasSnapshot(ctx context.Context, name string) (bool, error) {
	_, ok, err := im.h.snapshot(ctx, name)
	return ok, dataFailure("list snapshots", im.String(), err)
}

// SnapshotRoom is how many more snapshots the image's limit allows.
func (im *image) SnapshotRoom(ctx context.Context) (int, error) {
	const op = "look up the snapshot limit"
	list, err := im.h.snapshots(ctx)
	if err != nil {
		return 0, dataFailure(op, im.String(), err)
	}
	limit, err := inPool(ctx, im.t.conn, im.name, func(io *rados.IOContext) (int, error) {
		return snapLimit(io, im.name.Image)
	})
	if err != nil {
		return 0, dataFailure(op, im.String(), err)
	}
	if limit < 0 {
		return -1, nil
	}
	return max(0, limit-len(list)), nil
}

// Snapshot takes a snapshot. One that can't be protected doesn't stay.
func (im *image) Snapshot(ctx context.Context, name string, protect bool) error {
	const op = "snapshot"
	if name == "" || strings.ContainsRune(name, 0) {
		return &target.Error{
			Op: op, Name: im.String(), Errno: syscall.EINVAL, Err: errors.New("the snapshot's name is empty, or has a NUL in it"),
		}
	}
	err := im.take(ctx, name)
	if err == nil && protect {
		err = im.h.call(ctx, func(img *rbd.Image) error {
			snapshot := img.GetSnapshot(name)
			if err := snapshot.Protect(); err != nil {
				return errors.Join(err, snapshot.Remove())
			}
			return nil
		})
	}
	return snapshotFailure(op, im.String()+"@"+name, err)
}

// take takes a snapshot and makes sure that it can be opened: in a full pool
// librbd makes one without the map of its objects, reports success, and can't open
// it ever after.
func (im *image) take(ctx context.Context, name string) error {
	err := im.h.call(ctx, func(img *rbd.Image) error {
		if err := img.Flush(); err != nil {
			return err
		}
		_, err := img.CreateSnapshot(name)
		return err
	})
	if err != nil {
		return err
	}
	h, err := im.t.conn.open(ctx, im.name, name, toLook)
	if err == nil {
		return h.close()
	}
	if errnoOf(err) == syscall.ENOENT {
		err = syscall.ENOSPC
	}
	return errors.Join(err, im.h.call(ctx, func(img *rbd.Image) error { return drop(img, name) }))
}

// snapshotFailure says in words what librbd means by the errno of a snapshot.
func snapshotFailure(op, name string, err error) error {
	e := &target.Error{Op: op, Name: name, Errno: errnoOf(err)}
	switch e.Errno {
	case syscall.EEXIST:
		e.Err = errors.New("there is a snapshot of that name")
	case syscall.EDQUOT:
		e.Err = errors.New("the image, or its pool, has reached its quota")
		e.Hint = "See `rbd snap limit` and `ceph osd pool get-quota`"
	case syscall.ENOSYS:
		e.Err = errors.New("without the feature layering there are no protected snapshots")
		e.Hint = "Restore with --image-features that have layering"
	default:
		return dataFailure(op, name, err)
	}
	return e
}

// drop removes a snapshot, a protected one as well.
func drop(img *rbd.Image, name string) error {
	snapshot := img.GetSnapshot(name)
	// An image without layering has no protection to ask for.
	if protected, err := snapshot.IsProtected(); err == nil && protected {
		if err := snapshot.Unprotect(); err != nil {
			return err
		}
	}
	return snapshot.Remove()
}
