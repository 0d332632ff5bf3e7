package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rbdbackupfs/fs"
)

// resolvePath makes path absolute and resolves symbolic links, of its last
// component only where that can be looked at: a mountpoint whose process is
// gone can't.
func resolvePath(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		return resolved, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if errors.Is(err, os.ErrNotExist) {
		return full, nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(full)), nil
}

// findMount resolves the path a user gave, and returns the mountpoint of ours
// that it is or lies in, empty for none. It never looks into a mount, which may
// hang.
func findMount(path string) (resolved, mountpoint string, err error) {
	if resolved, err = resolvePath(path); err != nil {
		return "", "", err
	}
	mounts, err := fs.Mounted()
	if err != nil {
		return "", "", err
	}
	for _, m := range mounts {
		if within(resolved, m.Mountpoint) && len(m.Mountpoint) >= len(mountpoint) {
			mountpoint = m.Mountpoint
		}
	}
	return resolved, mountpoint, nil
}

// findMountpoint is findMount for a command that takes nothing else.
func findMountpoint(path string) (string, error) {
	resolved, mountpoint, err := findMount(path)
	if err != nil {
		return "", err
	}
	if mountpoint == resolved {
		return mountpoint, nil
	}
	if mountpoint != "" {
		return "", insideMount(resolved, mountpoint)
	}
	mounts, err := fs.Mounted()
	if err != nil {
		return "", err
	}
	if len(mounts) == 0 {
		return "", fmt.Errorf("no rbdbackupfs is mounted at %s, nor anywhere else here; see: rbdbackupfs mount --help", resolved)
	}
	var points []string
	for _, m := range mounts {
		points = append(points, m.Mountpoint)
	}
	return "", fmt.Errorf("no rbdbackupfs is mounted at %s; mounted are: %s", resolved, strings.Join(points, ", "))
}

func insideMount(path, mountpoint string) error {
	return fmt.Errorf("%s lies in the mount at %s; name %s itself", path, mountpoint, mountpoint)
}

// within reports whether path is dir or lies below it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// A goneError is a mountpoint whose process is gone.
type goneError string

// Error says how to clean it up.
func (e goneError) Error() string {
	return fmt.Sprintf("the process behind the mount at %s is gone; clean it up with: rbdbackupfs umount %[1]s", string(e))
}

// Unwrap gives what the kernel says of such a mount.
func (goneError) Unwrap() error { return unix.ENOTCONN }

// mountError explains what reading status.json in a mount gives.
func mountError(mountpoint string, err error) error {
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return goneError(mountpoint)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("the mount at %s is closed to this user; ask as the one who mounted it, or mount it with --allow-other", mountpoint)
	}
	return err
}

// repoOf is the repository that a mount shows, also one whose process is gone.
func repoOf(mountpoint string) (string, error) {
	mount, err := fs.MountedAt(mountpoint)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(mount.Repo) {
		return "", fmt.Errorf("the process behind the mount at %s is gone, and its fsname, %q, is no repository; name REPO itself", mountpoint, mount.Repo)
	}
	return mount.Repo, nil
}

func completeMountpoints(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	mounts, err := fs.Mounted()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var points []string
	for _, m := range mounts {
		points = append(points, m.Mountpoint)
	}
	return points, cobra.ShellCompDirectiveNoFileComp
}
