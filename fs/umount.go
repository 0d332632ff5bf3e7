package fs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How often a mount is tried again that is busy with nothing to be seen: a
// process that just ended, whose files the kernel is still closing.
const (
	busyTries = 20
	busyPause = 25 * time.Millisecond

	helperWait = 30 * time.Second // for fusermount3
)

// Umount unmounts the rbdbackupfs at path, of this process or another. A stale
// one is removed, whoever still holds it. Otherwise something that uses it makes
// it an *Error with ErrBusy and Holders. It doesn't wait for the process that
// served it.
func Umount(path string) error {
	p, err := resolvePlace(path)
	if err != nil {
		return &Error{Op: "unmount", Path: absolute(path), Err: err}
	}
	entry, mounted := p.mounted()
	switch {
	case !mounted:
		return &Error{Op: "unmount", Path: p.path, Err: ErrNotMounted, Hint: mountedHint(p)}
	case entry.fsType != FSType:
		return &Error{
			Op: "unmount", Path: p.path, Err: ErrNotMounted,
			Hint: "What is mounted there is " + entry.fsType + ": use umount " + p.path,
		}
	}
	clock := systemClock()
	if errors.Is(probe(p.path, clock), syscall.ENOTCONN) {
		return wrapUnmount(p.path, detach(p.path, clock))
	}
	return unmountPath(p.path, clock)
}

// mountedHint says where something is mounted.
func mountedHint(p place) string {
	var paths []string
	for _, entry := range p.mounts {
		if entry.fsType == FSType {
			paths = append(paths, entry.path)
		}
	}
	if len(paths) == 0 {
		return "None is mounted anywhere"
	}
	return "Mounted are: " + strings.Join(paths, ", ")
}

// unmountPath unmounts path, and explains what is in the way.
func unmountPath(path string, clock *Clock) error {
	for try := 1; ; try++ {
		err := unmountOnce(path, 0, clock)
		if !errors.Is(err, syscall.EBUSY) {
			return wrapUnmount(path, err)
		}
		holders := findHolders(path)
		if len(holders) > 0 || try == busyTries {
			return busyError(path, holders)
		}
		ctx, cancel := clock.WithTimeout(context.Background(), busyPause)
		<-ctx.Done()
		cancel()
	}
}

func busyError(path string, holders []Holder) error {
	hint := "End what is listed here, then unmount again"
	if len(holders) == 0 {
		hint = "Nothing that this user may see holds it: run rbdbackupfs umount " + path + " as root to see who does"
	}
	return &Error{Op: "unmount", Path: path, Hint: hint, Holders: holders, Err: ErrBusy}
}

func wrapUnmount(path string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: "unmount", Path: path, Err: err}
}

// detach takes path out of the tree at once, whoever uses it.
func detach(path string, clock *Clock) error { return unmountOnce(path, unix.MNT_DETACH, clock) }

// unmountOnce unmounts as root by the system call, else through fusermount3.
func unmountOnce(path string, flags int, clock *Clock) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(path, flags|unix.UMOUNT_NOFOLLOW); err != nil {
			return os.NewSyscallError("umount2", err)
		}
		return nil
	}
	helper, err := findHelper()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if flags&unix.MNT_DETACH != 0 {
		args = append(args, "-z")
	}
	var said bytes.Buffer
	ctx, cancel := clock.WithTimeout(context.Background(), helperWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, append(args, "--", path)...)
	cmd.Stderr = &said
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(said.String())
		if strings.Contains(text, "resource busy") {
			return syscall.EBUSY
		}
		return errors.New(text + " (" + err.Error() + ")")
	}
	return nil
}

// findHelper finds fusermount3, also with an empty PATH.
func findHelper() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "/usr/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", ErrNoHelper
}
