package copyout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/guestfs"
)

// folder copies one with all that is in it.
func (c *copier) folder(d *folder, name string, f *guestfs.File) error {
	switch {
	case c.seen[f.ID]:
		return fmt.Errorf("%s: a folder that lies in two places; the file system is damaged there", f.Path)
	case d.depth >= maxDepth:
		return fmt.Errorf("%s: more than %d folders in one another; copy this one by itself", f.Path, maxDepth)
	}
	c.seen[f.ID] = true
	if err := d.root.Mkdir(name, privateFolder); err != nil {
		return c.host(d, name, err)
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return c.host(d, name, err)
	}
	c.result.Folders++
	err = c.fill(&folder{root: root, path: d.join(name), depth: d.depth + 1}, f)
	err = errors.Join(err, root.Close())
	if err != nil {
		return err
	}
	return c.attributes(d.root, name, f)
}

// link makes a symbolic link.
func (c *copier) link(d *folder, name string, f *guestfs.File) error {
	target, err := f.Target()
	if err != nil {
		return err
	}
	if err := d.root.Symlink(target, name); err != nil {
		return c.host(d, name, err)
	}
	c.result.Links++
	c.owner(f, func(uid, gid int) error { return d.root.Lchown(name, uid, gid) })
	return c.linkTime(d, name, f)
}

// linkTime sets when a symbolic link changed, which os.Root can't.
func (c *copier) linkTime(d *folder, name string, f *guestfs.File) error {
	dir, err := d.root.Open(".")
	if err != nil {
		return c.host(d, name, err)
	}
	defer dir.Close()
	when := unix.NsecToTimespec(f.ModTime.UnixNano())
	err = unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		c.note("times can't be set there: %v", err)
	}
	return nil
}

// host adds to an error of the host's which file it is about: os.Root knows no more
// than a part of the path.
func (c *copier) host(d *folder, name string, err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*os.LinkError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return &os.PathError{Op: "writing", Path: filepath.Join(d.root.Name(), name), Err: err}
}
