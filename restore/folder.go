package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"rbdbackupfs/internal/target"
)

const (
	imageSuffix = ".img"
	tempPrefix  = ".rbdbackupfs-"
	// defaultPool is the pool that there always is, as in Ceph's examples.
	defaultPool = "rbd"
)

// A Folder is a target that needs no cluster: sparse raw files.
//
//	DIR/<pool>/[<namespace>/]<image>.img
//
// A file grows under a name that begins with ".rbdbackupfs-" and gets its own name
// when it is whole and durable; a diff goes to a copy, which then takes the
// place of the file. A raw file has no snapshots: it remembers the one that it was
// last at (remembered.go), so that a diff that doesn't follow is refused.
type Folder struct {
	root string
	// file is the only image there is, where the target is that one file.
	file string
}

// OpenFolder returns the target at a folder, which is made if need be. Errors are
// those of the file system.
func OpenFolder(dir string) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Folder{root: dir}, nil
}

// SingleFile returns a target that has one image, and the name of that: the
// file at path.
func SingleFile(path string) (*Folder, target.Name, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, target.Name{}, err
	}
	return &Folder{root: filepath.Dir(path), file: path}, target.Name{Pool: "file", Image: "image"}, nil
}

var _ target.Target = (*Folder)(nil)

// String is file:DIR, or path:FILE for a single one.
func (d *Folder) String() string {
	if d.file != "" {
		return "path:" + d.file
	}
	return "file:" + d.root
}

// dir is the folder of a pool or of a namespace.
func (d *Folder) dir(pool, namespace string) string {
	if d.file != "" {
		return d.root
	}
	return filepath.Join(d.root, pool, namespace)
}

// path is the file of an image.
func (d *Folder) path(name target.Name) string {
	if d.file != "" {
		return d.file
	}
	return filepath.Join(d.dir(name.Pool, name.Namespace), name.Image+imageSuffix)
}

func (d *Folder) temp(job *target.Job) string {
	return filepath.Join(d.dir(job.Image.Pool, job.Image.Namespace), tempPrefix+job.ID)
}

// Pools are the folders in DIR, and rbd.
func (d *Folder) Pools(context.Context) ([]string, error) {
	names, err := subfolders(d.root)
	if err != nil {
		return nil, fileError("list", d.root, err)
	}
	if !slices.Contains(names, defaultPool) {
		names = append(names, defaultPool)
		slices.Sort(names)
	}
	return names, nil
}

// Namespaces are the folders in that of the pool.
func (d *Folder) Namespaces(_ context.Context, pool string) ([]string, error) {
	names, err := subfolders(d.dir(pool, ""))
	if errors.Is(err, os.ErrNotExist) && pool == defaultPool {
		return nil, nil
	}
	if err != nil {
		return nil, fileError("list", d.dir(pool, ""), err)
	}
	return names, nil
}

func subfolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// MakeFolder makes the folder of a pool or of a namespace.
func (d *Folder) MakeFolder(_ context.Context, pool, namespace string) error {
	if err := (target.Name{Pool: pool, Namespace: namespace, Image: "x"}).Check(); err != nil {
		return err
	}
	dir := d.dir(pool, namespace)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fileError("make the folder", dir, err)
	}
	return nil
}

// Exists looks for the file.
func (d *Folder) Exists(_ context.Context, name target.Name) (bool, error) {
	if err := d.ready(name); err != nil {
		return false, err
	}
	switch _, err := os.Lstat(d.path(name)); {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	default:
		return false, fileError("look for", d.path(name), err)
	}
}

// ready makes sure that the folder of an image is there: the default pool's comes
// with its first image.
func (d *Folder) ready(name target.Name) error {
	dir := d.dir(name.Pool, name.Namespace)
	if name.Pool == defaultPool && name.Namespace == "" && d.file == "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fileError("make the folder", dir, err)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return fileError("look into", dir, err)
	}
	return nil
}

// Create makes the file under its temporary name. The layout means nothing here.
func (d *Folder) Create(_ context.Context, job *target.Job, size int64, _ target.Layout) (target.Image, error) {
	if err := d.ready(job.Image); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.temp(job), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fileError("create", d.temp(job), err)
	}
	img := &fileImage{d: d, job: job, f: f, temp: true}
	if err := img.Resize(context.Background(), size); err != nil {
		return nil, errors.Join(err, img.Abort(context.Background()))
	}
	return img, nil
}

// Open opens the file of an image for reading.
func (d *Folder) Open(_ context.Context, job *target.Job) (target.Image, error) {
	path := d.path(job.Image)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError("open", path, err)
	}
	img := &fileImage{d: d, job: job, f: f}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file: %w", syscall.EINVAL)
	}
	if err == nil {
		img.size = info.Size()
		img.past, err = remembered(f)
	}
	if err != nil {
		return nil, errors.Join(fileError("open", path, err), f.Close())
	}
	return img, nil
}

// Recover gives a complete file its name, and removes any other.
func (d *Folder) Recover(_ context.Context, job *target.Job) (bool, error) {
	temp, final := d.temp(job), d.path(job.Image)
	_, err := os.Lstat(temp)
	switch {
	case errors.Is(err, os.ErrNotExist):
		// It had been renamed, or never made.
		return job.Complete, nil
	case err != nil:
		return false, fileError("recover", temp, err)
	}
	if job.Complete {
		err := place(temp, final, job.Update)
		if err == nil || !errors.Is(err, os.ErrExist) {
			return err == nil, fileErrorOrNil("recover", final, err)
		}
	}
	return false, fileErrorOrNil("remove", temp, os.Remove(temp))
}

// Close has nothing to do.
func (d *Folder) Close() error { return nil }

// fileError is an error of the file system, with its own errno.
func fileError(op, path string, err error) error {
	errno := syscall.EIO
	errors.As(err, &errno)
	hint := ""
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		hint = "Make room there, and try again"
	case syscall.ENOENT:
		hint = "mkdir makes a pool's folder"
	case syscall.EFBIG:
		hint = "The file system can't hold a file of that size; use another one"
	case syscall.ELOOP:
		hint = "A symbolic link is in the place of the image: name the file itself"
	}
	return &target.Error{Op: op, Name: path, Errno: errno, Err: cause(err), Hint: hint}
}

func fileErrorOrNil(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return fileError(op, path, err)
}

// cause drops the layer that would repeat the path.
func cause(err error) error {
	path, link := (*os.PathError)(nil), (*os.LinkError)(nil)
	if errors.As(err, &path) {
		return path.Err
	}
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
