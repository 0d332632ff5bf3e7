//go:build cgo && !noceph

package ceph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// Lock opens the image for writing. A writer registers a watcher, which every
// later user of the image sees, and takes the image's exclusive lock where it has
// one, and doesn't pass it on when asked.
func (im *image) Lock(ctx context.Context) error {
	const op = "lock"
	if im.writable {
		return nil
	}
	if err := im.unused(ctx, op, im.h, 0); err != nil {
		return err
	}
	h, err := im.t.conn.open(ctx, im.name, rbd.NoSnapshot, toWrite)
	if err != nil {
		return dataFailure(op, im.String(), err)
	}
	// Whoever came between the two looks is seen by this one, and sees us.
	if err := im.unused(ctx, op, h, 1); err != nil {
		return errors.Join(err, h.close())
	}
	looker := im.h
	im.h, im.writable = h, true
	err = im.claim(ctx)
	if err == nil {
		err = im.look(ctx)
	}
	if err != nil {
		im.h, im.writable = looker, false
		return errors.Join(dataFailure(op, im.String(), err), h.close())
	}
	return dataFailure(op, im.String(), looker.close())
}

// unused gives EBUSY when the image has watchers, apart from ours.
func (im *image) unused(ctx context.Context, op string, h *handle, ours int) error {
	others, err := h.watchers(ctx, ours)
	if err != nil {
		return dataFailure(op, im.String(), err)
	}
	if len(others) == 0 {
		return nil
	}
	return busy(op, im.String(), others)
}

func busy(op, name string, others []string) error {
	return &target.Error{
		Op: op, Name: name, Errno: syscall.EBUSY,
		Err: fmt.Errorf("the image is in use by %s", strings.Join(others, ", ")),
		Hint: "Unmap it, or stop the virtual machine; a client that died counts for up to 30 seconds. See `rbd status " +
			name + "`",
	}
}

// watchers are the addresses of those who have the image open for writing, without
// the given number of our own.
func (h *handle) watchers(ctx context.Context, ours int) ([]string, error) {
	var others []string
	err := h.call(ctx, func(img *rbd.Image) error {
		list, err := img.ListWatchers()
		if err != nil {
			return err
		}
		me := int64(h.conn.rados.GetInstanceID())
		var found []string
		for _, w := range list {
			if w.Id == me && ours > 0 {
				ours--
				continue
			}
			found = append(found, w.Addr)
		}
		slices.Sort(found)
		others = found
		return nil
	})
	if err != nil {
		return nil, err
	}
	return others, nil
}

// lockLimit is how long to wait for the exclusive lock: librbd waits for ever for
// somebody who doesn't give it up.
const lockLimit = time.Minute

// autoCookie begins the name of a lock that librbd takes and breaks by itself.
const autoCookie = "auto "

// claim takes the exclusive lock.
func (im *image) claim(ctx context.Context) error {
	if im.features&featureExclusiveLock == 0 {
		return nil
	}
	taken := &target.Error{
		Op: "lock", Name: im.String(), Errno: syscall.EBUSY,
		Err: errors.New("somebody has locked the image"), Hint: "See `rbd lock ls " + im.String() + "`",
	}
	limited, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	err := im.h.call(limited, func(img *rbd.Image) error {
		_, lockers, err := img.ListLockers()
		if err != nil {
			return err
		}
		for _, locker := range lockers {
			if !strings.HasPrefix(locker.Cookie, autoCookie) {
				return taken
			}
			if err := im.unlockOwn(img, locker); err != nil {
				return err
			}
		}
		return img.LockAcquire(rbd.LockModeExclusive)
	})
	errno := errnoOf(err)
	if errno == syscall.EBUSY || errno == syscall.EAGAIN || ctx.Err() == nil && limited.Err() != nil {
		return taken
	}
	return err
}

// unlockOwn takes away a lock that an earlier handle of this connection left when
// the cluster didn't answer: librbd breaks those of others only. That the handle
// is gone is known, as it would watch the image.
func (im *image) unlockOwn(img *rbd.Image, lock rbd.Locker) error {
	if lock.Client != fmt.Sprintf("client.%d", im.h.conn.rados.GetInstanceID()) {
		return nil
	}
	id, err := img.GetId()
	if err != nil {
		return err
	}
	_, err = im.h.io.Unlock("rbd_header."+id, "rbd_lock", lock.Cookie)
	return err
}
