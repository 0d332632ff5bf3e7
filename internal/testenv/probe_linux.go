package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// probeFUSE mounts a FUSE file system that nobody serves and detaches it again.
// The kernel accepts the mount before its server has said anything, so nothing
// waits for an answer.
func probeFUSE() error {
	dir, err := os.MkdirTemp("", "rbdbackupfs-probe-")
	if err != nil {
		return err
	}
	// A plain Remove: were the file system still mounted here, it would refuse
	// rather than reach into it.
	defer func() { _ = os.Remove(dir) }()
	if os.Geteuid() == 0 {
		return probeFUSEAsRoot(dir)
	}
	return probeFUSEAsUser(dir)
}

func probeFUSEAsRoot(dir string) error {
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())
	if err := unix.Mount("probe", dir, "fuse.rbdbackupfs-probe", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return errors.Join(fmt.Errorf("mounting FUSE: %w", err), dev.Close())
	}
	// Closing the device aborts the connection, so the detach has nobody to ask.
	return errors.Join(dev.Close(), unix.Unmount(dir, unix.MNT_DETACH))
}

// fusermountLimit ends a fusermount3 that hangs; it normally takes milliseconds.
const fusermountLimit = 10 * time.Second

// probeFUSEAsUser goes the way go-fuse goes for an ordinary user: fusermount3
// mounts and passes the device back through a socket.
func probeFUSEAsUser(dir string) error {
	program, err := Program("fusermount3")
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	// Closed last: the received device lies unread in the socket and the
	// connection ends with it.
	local := os.NewFile(uintptr(pair[0]), "fusermount3-local")
	remote := os.NewFile(uintptr(pair[1]), "fusermount3-remote")
	defer func() { _, _ = local.Close(), remote.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), fusermountLimit)
	defer cancel()
	mount := exec.CommandContext(ctx, program, "-o", "nosuid,nodev", "--", dir)
	mount.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	mount.ExtraFiles = []*os.File{remote}
	if out, err := mount.CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, program, "-u", "-z", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3 -u: %w: %s", err, out)
	}
	return nil
}

// attachTries bounds the race for a free loop device: between asking for one and
// attaching to it another process may have taken it.
const attachTries = 16

// probeLoop attaches a small file to a free loop device and detaches it again.
func probeLoop() error {
	backing, err := os.CreateTemp("", "rbdbackupfs-probe-*.img")
	if err != nil {
		return err
	}
	defer func() { _, _ = backing.Close(), os.Remove(backing.Name()) }()
	if err := backing.Truncate(1 << 20); err != nil {
		return err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()

	for range attachTries {
		err = attachLoop(control, backing)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

func attachLoop(control, backing *os.File) error {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("asking for a free loop device: %w", err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }()
	fd := int(device.Fd())
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, int(backing.Fd())); err != nil {
		return fmt.Errorf("attaching %s: %w", device.Name(), err)
	}
	if err := unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); err != nil {
		return fmt.Errorf("detaching %s: %w", device.Name(), err)
	}
	return nil
}
