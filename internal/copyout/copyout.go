// Package copyout copies files out of a guest's file system into a folder of the
// host: contents, holes, modes, times, symbolic and hard links, and owners where
// that is allowed.
//
//	guestfs.File ──▶ Copy ──▶ os.Root of the new folder ──▶ host
//
// The guest's names and links are untrusted. Every name is one component below an
// os.Root, every file is made with O_EXCL, and links are made, never followed: so
// nothing lands outside of the destination, and nothing that was there is changed.
// Devices, sockets and pipes aren't made, and no file gets a set-user-ID or
// set-group-ID bit: what a guest's administrator trusts is nothing that this host
// should. Extended attributes aren't copied.
package copyout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/guestfs"
)

const (
	// bufferSize is what is copied at once, bytes.
	bufferSize = 1 << 20
	// maxDepth bounds how deep folders lie in one another: each keeps a file open.
	maxDepth = 512
	// batch is how many files of a folder are looked at before they are copied, which
	// tells how much there is to do.
	batch = 1024

	private       = 0o600
	privateFolder = 0o700
)

// Options say how to copy.
type Options struct {
	// Owners gives the copies the guest's owners and groups.
	Owners bool
	// Left is told why something isn't copied, or not quite; copying goes on.
	Left func(err error)
	// Progress is told how far it has come, in bytes of files that are known of.
	Progress func(done, total int64, path string)
}

// A Result counts what was copied.
type Result struct {
	Files, Folders, Links int
	Bytes                 int64 // contents, holes included
	// Skipped are devices, sockets and pipes, Failed is what could not be copied.
	Skipped, Failed int
	// Stripped are files without the set-user-ID or set-group-ID bit that they had.
	Stripped int
}

// A copier is one run of Copy.
type copier struct {
	ctx    context.Context
	o      Options
	top    *os.Root // what the paths in made are relative to
	result Result
	total  int64 // bytes that are known of
	buffer []byte
	made   map[uint64]string // files with several names, by their ID
	seen   map[uint64]bool   // folders, which have one name each
	noted  map[string]bool   // what is said once
}

// Copy copies f, and all that is in it, to the path dest, which must not exist, or
// be an empty folder where f is one. Parts of the guest that can't be read are told
// to Options.Left and counted. An error is one of the host's, such as a full disk,
// or the end of ctx: what is complete then stays, and no partial file does.
func Copy(ctx context.Context, f *guestfs.File, dest string, o Options) (Result, error) {
	c := &copier{
		ctx: ctx, o: o, buffer: make([]byte, bufferSize),
		made: make(map[uint64]string), seen: make(map[uint64]bool), noted: make(map[string]bool),
	}
	parent, err := os.OpenRoot(filepath.Dir(dest))
	if err != nil {
		return c.result, err
	}
	defer func() { _ = parent.Close() }()
	name := filepath.Base(dest)
	if !f.IsDir() {
		c.top = parent
		c.total = f.Size
		return c.result, c.one(&folder{root: parent}, name, f)
	}
	switch err := parent.Mkdir(name, privateFolder); {
	case errors.Is(err, os.ErrExist):
		if err := checkEmpty(dest); err != nil {
			return c.result, err
		}
	case err != nil:
		return c.result, err
	}
	if c.top, err = parent.OpenRoot(name); err != nil {
		return c.result, err
	}
	defer func() { _ = c.top.Close() }()
	c.result.Folders++
	c.seen[f.ID] = true
	if err := c.fill(&folder{root: c.top}, f); err != nil {
		return c.result, err
	}
	return c.result, c.attributes(parent, name, f)
}

func checkEmpty(dest string) error {
	list, err := os.ReadDir(dest)
	if err == nil && len(list) > 0 {
		err = &os.PathError{Op: "copy", Path: dest, Err: unix.ENOTEMPTY}
	}
	return err
}

// A folder is one that is being filled.
type folder struct {
	root  *os.Root
	path  string // below the top, "" for the top itself
	depth int
}

func (d *folder) join(name string) string { return filepath.Join(d.path, name) }

// fill copies what is in f.
func (c *copier) fill(d *folder, f *guestfs.File) error {
	entries, err := f.Entries()
	if err != nil {
		c.fail(err)
	}
	for len(entries) > 0 {
		n := min(len(entries), batch)
		files := make([]*guestfs.File, n)
		for i, e := range entries[:n] {
			if files[i], err = e.Open(); err != nil {
				c.fail(err)
			} else if files[i].IsRegular() && c.made[files[i].ID] == "" {
				c.total += files[i].Size
			}
		}
		for i, file := range files {
			if file == nil {
				continue
			}
			if err := c.one(d, entries[i].Name, file); err != nil {
				return err
			}
		}
		entries = entries[n:]
	}
	return nil
}

// one copies whatever f is. It returns what ends the whole copy.
func (c *copier) one(d *folder, name string, f *guestfs.File) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		c.fail(fmt.Errorf("%q is no name for a file", f.Path))
		return nil
	}
	var err error
	switch f.Mode & guestfs.TypeMask {
	case guestfs.TypeDir:
		err = c.folder(d, name, f)
	case guestfs.TypeFile:
		err = c.file(d, name, f)
	case guestfs.TypeLink:
		err = c.link(d, name, f)
	default:
		c.result.Skipped++
		c.o.Left(fmt.Errorf("%s: a device, socket or pipe; left out", f.Path))
	}
	if err == nil || c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	if fatal(err) {
		return err
	}
	c.fail(err)
	return nil
}

// fatal tells whether an error of the host's would come again for the next file.
func fatal(err error) bool {
	guest := (*guestfs.Error)(nil)
	if errors.As(err, &guest) {
		return false
	}
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ESTALE} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (c *copier) fail(err error) {
	c.result.Failed++
	c.o.Left(err)
}

// note says something once, whatever number of files it is about.
func (c *copier) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !c.noted[text] {
		c.noted[text] = true
		c.o.Left(errors.New(text))
	}
}
