package copyout

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/guestfs"
)

const (
	permissions = 0o777
	setID       = 0o6000
	sticky      = 0o1000
)

// file copies an ordinary file, or makes one more name of what was copied.
func (c *copier) file(d *folder, name string, f *guestfs.File) (err error) {
	if first := c.made[f.ID]; first != "" {
		if c.top.Link(first, d.join(name)) == nil {
			c.result.Links++
			return nil
		}
		c.total += f.Size // where there are no hard links, it is copied again
	}
	out, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, private)
	if err != nil {
		return c.host(d, name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.root.Remove(name))
		}
	}()
	before := c.result.Bytes
	if err = c.contents(out, f); err != nil {
		c.result.Bytes = before
		return errors.Join(c.hostOnly(d, name, err), out.Close())
	}
	// With the mode the file may be somebody else's to read; it is whole now.
	c.owner(f, out.Chown)
	if err := out.Chmod(c.mode(f)); err != nil {
		c.note("modes can't be set there: %v", cause(err))
	}
	if err = out.Close(); err != nil { // some file systems tell of a full disk only now
		return c.host(d, name, err)
	}
	if err := d.root.Chtimes(name, f.ModTime, f.ModTime); err != nil {
		c.note("times can't be set there: %v", cause(err))
	}
	c.result.Files++
	if f.Links > 1 {
		c.made[f.ID] = d.join(name)
	}
	return nil
}

// hostOnly names the host's file in what is an error of the host's.
func (c *copier) hostOnly(d *folder, name string, err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) && !isGuest(err) {
		return c.host(d, name, err)
	}
	return err
}

func isGuest(err error) bool {
	e := (*guestfs.Error)(nil)
	return errors.As(err, &e)
}

// contents copies what isn't a hole.
func (c *copier) contents(out *os.File, f *guestfs.File) error {
	for off := int64(0); off < f.Size; {
		begin, end, err := f.Data(off)
		if err != nil {
			return err
		}
		c.progress(begin-off, f)
		for off = begin; off < end; {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			p := c.buffer[:min(end-off, bufferSize)]
			if _, err := f.ReadAt(p, off); err != nil {
				return err
			}
			if _, err := out.WriteAt(p, off); err != nil {
				return err
			}
			off += int64(len(p))
			c.progress(int64(len(p)), f)
		}
	}
	return out.Truncate(f.Size)
}

func (c *copier) progress(n int64, f *guestfs.File) {
	c.result.Bytes += n
	c.o.Progress(c.result.Bytes, c.total, f.Path)
}

// mode is what a copy gets.
func (c *copier) mode(f *guestfs.File) fs.FileMode {
	mode := fs.FileMode(f.Mode & permissions)
	if f.Mode&setID != 0 && !f.IsDir() {
		c.result.Stripped++
	}
	if f.IsDir() && f.Mode&sticky != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// owner sets the owner, where that was asked for.
func (c *copier) owner(f *guestfs.File, set func(uid, gid int) error) {
	if !c.o.Owners {
		return
	}
	if err := set(int(f.UID), int(f.GID)); err != nil {
		c.note("owners can't be set there: %v", cause(err))
	}
}

// attributes sets those of a folder that is full.
func (c *copier) attributes(parent *os.Root, name string, f *guestfs.File) error {
	c.owner(f, func(uid, gid int) error { return parent.Lchown(name, uid, gid) })
	if err := parent.Chmod(name, c.mode(f)); err != nil {
		c.note("modes can't be set there: %v", cause(err))
	}
	if err := parent.Chtimes(name, f.ModTime, f.ModTime); err != nil {
		c.note("times can't be set there: %v", cause(err))
	}
	return nil
}

// cause is an error without the path, which is the first of many.
func cause(err error) error {
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return errno
	}
	return err
}
