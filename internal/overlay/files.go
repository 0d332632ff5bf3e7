package overlay

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// load reads the map of an overlay that an earlier process made, and gives back what
// doesn't belong to it. Errors: ErrDamaged.
func (o *Overlay) load() (err error) {
	o.exists = true
	if o.log, err = os.OpenFile(o.base+mapExt, openFlags, 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.detach()) }()
	c, err := readMap(o.log)
	o.id = c.id
	if err != nil {
		return err
	}
	if err := o.openData(); err != nil {
		return err
	}
	info, err := o.data.Stat()
	if err != nil {
		return err
	}
	if info.Size() != o.id.Size {
		return fmt.Errorf("%w: %s has %d bytes, not the %d of the image", ErrDamaged, o.data.Name(), info.Size(), o.id.Size)
	}
	if err := o.log.Truncate(c.whole); err != nil {
		return err
	}
	o.owned, o.logged, o.packed, o.modified = c.owned, c.whole, c.whole, info.ModTime()
	if err := o.reclaim(); err != nil {
		return err
	}
	o.bytes = o.backed.count << blockShift
	return nil
}

// reclaim finds which owned blocks take room, and makes holes of what isn't owned.
func (o *Overlay) reclaim() error {
	for at := int64(0); at < o.id.Size; {
		from, err := unix.Seek(int(o.data.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		to := from
		if err == nil {
			to, err = unix.Seek(int(o.data.Fd()), from, unix.SEEK_HOLE)
		}
		if err != nil {
			return err
		}
		if err := o.sort(covering(from, to-from)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// sort takes blocks that take room for backed ones, or makes holes of them.
func (o *Overlay) sort(r run) error {
	for at := r.from; at < r.to; {
		owned, end := o.owned.stretch(at, r.to)
		if owned {
			o.backed.add(run{at, end})
		} else if err := punch(o.data, run{at, end}); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		at = end
	}
	return nil
}

const openFlags = os.O_RDWR | unix.O_NOFOLLOW

// attach opens the files, if there are any, before the first use.
func (o *Overlay) attach() (err error) {
	if !o.exists {
		return nil
	}
	if o.log, err = os.OpenFile(o.base+mapExt, openFlags, 0); err == nil {
		err = o.openData()
	}
	if err != nil {
		err = errors.Join(err, o.detach())
	}
	return err
}

func (o *Overlay) openData() (err error) {
	o.data, err = os.OpenFile(o.base+dataExt, openFlags, 0)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// detach closes the files after the last use.
func (o *Overlay) detach() (err error) {
	for _, f := range []*os.File{o.data, o.log} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	o.data, o.log = nil, nil
	return err
}

// create makes the files before the first write, with writers held: the data, and then
// the map, under a name that doesn't count until it is durable.
func (o *Overlay) create() error {
	if o.data != nil {
		return nil
	}
	data, err := os.OpenFile(o.base+dataExt, os.O_CREATE|os.O_TRUNC|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err = data.Truncate(o.id.Size); err == nil {
		if err = data.Sync(); err == nil {
			err = o.replaceLog()
		}
	}
	if err != nil {
		_ = os.Remove(o.base + mapExt) // perhaps it was made, and isn't sure to last
		if o.log != nil {
			err = errors.Join(err, o.log.Close())
			o.log = nil
		}
		return errors.Join(err, data.Close(), os.Remove(o.base+dataExt))
	}
	o.mu.Lock()
	o.data = data
	o.mu.Unlock()
	o.store.mu.Lock()
	o.exists = true
	o.store.mu.Unlock()
	return nil
}

// replaceLog makes the log anew, with all blocks that it has to have.
func (o *Overlay) replaceLog() (err error) {
	b, err := appendIdentity(nil, o.id)
	if err != nil {
		return err
	}
	o.mu.Lock()
	durable := newBlocks()
	for r := range o.owned.runs() {
		durable.add(r)
	}
	for r := range o.dirty.runs() {
		durable.remove(r)
	}
	o.mu.Unlock()
	b = appendRuns(b, durable.runs())
	path := o.base + mapExt
	f, err := os.OpenFile(path+newExt, os.O_CREATE|os.O_TRUNC|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		if err = f.Sync(); err == nil {
			err = os.Rename(path+newExt, path)
		}
	}
	if err == nil {
		err = syncFolder(o.store.folder)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if o.log != nil {
		err = o.log.Close()
	}
	o.log, o.logged, o.packed = f, int64(len(b)), int64(len(b))
	return err
}

// Sync makes durable what was written before, and fails once if some of that was refused.
// Once it could not do its own part everything that writes fails, since nobody can tell
// what is lost.
func (o *Overlay) Sync() error {
	o.syncing.Lock()
	defer o.syncing.Unlock()
	o.mu.Lock()
	data, fresh, err, refused := o.data, o.dirty, o.failed, o.refused
	o.refused = nil
	if data == nil || err != nil {
		o.mu.Unlock()
		return errors.Join(err, refused)
	}
	o.dirty = newBlocks()
	o.mu.Unlock()
	if err = unix.Fdatasync(int(data.Fd())); err == nil && fresh.count > 0 {
		err = o.note(fresh)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		o.mu.Lock()
		o.failed = err
		o.mu.Unlock()
	}
	return errors.Join(err, refused)
}

// note appends blocks to the log.
func (o *Overlay) note(fresh *blocks) error {
	b := appendRuns(nil, fresh.runs())
	if _, err := o.log.WriteAt(b, o.logged); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(o.log.Fd())); err != nil {
		return err
	}
	o.logged += int64(len(b))
	if o.logged > compactAbove && o.logged > compactRatio*o.packed {
		return o.replaceLog()
	}
	return nil
}
