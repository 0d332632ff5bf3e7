package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/copyout"
	"rbdbackupfs/internal/guestfs"
	"rbdbackupfs/internal/progress"
)

// stdoutDest is DEST for one file to stdout.
const stdoutDest = "-"

// copyOut copies to DEST, and says what became of it.
func (f *filesRun) copyOut(ctx context.Context, file *guestfs.File) error {
	dest, err := f.destination(file)
	if err != nil {
		return err
	}
	if err := f.checkPlaces(dest); err != nil {
		return err
	}
	begin := f.app.now()
	bar := f.app.progress("copying")
	result, err := copyout.Copy(ctx, file, dest, copyout.Options{
		Owners: f.guest.Owned && os.Geteuid() == 0,
		Left:   func(err error) { f.app.complain(explain(err)) },
		Progress: func(done, total int64, path string) {
			bar.Update(done, total, progress.Bytes, printable(path))
		},
	})
	bar.Finish(err == nil)
	line := copied(result)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted; what is complete stays at %s: %s", dest, line)
	case err != nil:
		return fmt.Errorf("%w; what is complete stays at %s: %s", err, dest, line)
	}
	fmt.Fprintf(f.app.stdout, "copied %s of %s to %s: %s in %s\n", cell(file.Path), f.place(), printable(dest), line, elapsed(f.app.now().Sub(begin)))
	if result.Failed > 0 {
		return fmt.Errorf("%s could not be copied", count(result.Failed, "file"))
	}
	return nil
}

// copied says what a copy consists of.
func copied(r copyout.Result) string {
	parts := []string{count(r.Files, "file")}
	if r.Folders > 0 {
		parts = append(parts, count(r.Folders, "folder"))
	}
	if r.Links > 0 {
		parts = append(parts, count(r.Links, "link"))
	}
	parts = append(parts, size(r.Bytes))
	if r.Skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d left out", r.Skipped))
	}
	if r.Stripped > 0 {
		parts = append(parts, fmt.Sprintf("%d without their set-user-ID bit", r.Stripped))
	}
	return strings.Join(parts, ", ")
}

// destination is where the copy comes to lie: DEST, or in it if that is a folder.
func (f *filesRun) destination(file *guestfs.File) (string, error) {
	dest, err := filepath.Abs(f.dest)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(dest)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return dest, checkNewFile(dest)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s: %w; choose another name, or remove that file first", dest, unix.EEXIST)
	}
	name := path.Base(strings.TrimSuffix(f.path, "/"))
	if name == "." || name == ".." || name == "/" {
		name = path.Base(file.Path)
	}
	if name != "/" {
		dest = filepath.Join(dest, name)
		if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%s: %w; nothing is overwritten: choose another DEST, or remove that first", printable(dest), errors.Join(err, unix.EEXIST))
		}
		return dest, nil
	}
	list, err := os.ReadDir(dest)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%s: %w; nothing is overwritten: choose an empty folder, or a new one", dest, unix.ENOTEMPTY)
	}
	return dest, err
}

// checkPlaces keeps copies out of the repository, the index and the mount.
func (f *filesRun) checkPlaces(dest string) error {
	r := f.asRestoring()
	r.where = targetURL{kind: kindFile, path: dest}
	return r.checkPlaces()
}

// toStdout writes the contents of one file.
func (f *filesRun) toStdout(ctx context.Context, file *guestfs.File) error {
	if !file.IsRegular() {
		return fmt.Errorf("%s of %s is no ordinary file; name one, or a folder as DEST", printable(file.Path), f.place())
	}
	signal.Ignore(unix.SIGPIPE) // an error is enough
	bar := f.app.progress("copying")
	buffer, done := make([]byte, min(file.Size, outPiece)), int64(0)
	var err error
	for err == nil && done < file.Size {
		if err = ctx.Err(); err != nil {
			break
		}
		var n int
		if n, err = file.ReadAt(buffer[:min(int64(len(buffer)), file.Size-done)], done); err != nil && !errors.Is(err, io.EOF) {
			break
		}
		_, err = f.app.stdout.Write(buffer[:n])
		done += int64(n)
		bar.Update(done, file.Size, progress.Bytes, printable(file.Path))
	}
	bar.Finish(err == nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; stdout got %s of %s", size(done), size(file.Size))
	case errors.Is(err, unix.EPIPE):
		return fmt.Errorf("who reads stdout ended after %s of %s: %w", size(done), size(file.Size), err)
	}
	return fmt.Errorf("%w; stdout got %s of %s, which is not the file", err, size(done), size(file.Size))
}
