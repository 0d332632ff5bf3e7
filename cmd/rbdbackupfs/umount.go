package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/daemon"
)

// umountPatience is how long the process behind a mount may take to end.
const umountPatience = 30 * time.Second

type umountOptions struct{ lazy bool }

func (a *app) umountCommand() *cobra.Command {
	var o umountOptions
	c := &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "End a mount and wait until its process has ended",
		Long: `umount ends a mount and waits until its process has ended, so that its index is
free again. A mount whose process is gone ("Transport endpoint is not
connected") is cleaned up. A mount that is in use stays, and the message says
who uses it; --lazy takes it out of the folder tree all the same, and its
process ends when the last user is done.`,
		Example: `  rbdbackupfs umount /mnt/backups
  rbdbackupfs umount --lazy /mnt/backups`,
		Args:              between(1, 1),
		RunE:              func(c *cobra.Command, args []string) error { return a.umount(c.Context(), args[0], o) },
		ValidArgsFunction: completeMountpoints,
	}
	c.Flags().BoolVarP(&o.lazy, "lazy", "l", false, "detach a mount that is in use")
	return c
}

func (a *app) umount(ctx context.Context, path string, o umountOptions) error {
	mountpoint, err := findMountpoint(path)
	if err != nil {
		return err
	}
	// Of a mount that doesn't answer nobody knows what to wait for.
	status, unknown := mountStatus(ctx, mountpoint)
	wait := func(context.Context) error { return nil }
	if unknown == nil && !o.lazy {
		wait = awaitEnd(status.Daemon)
	}
	end := a.backend.Umount
	if o.lazy {
		end = a.backend.Detach
	}
	if err := end(mountpoint); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, umountPatience)
	defer cancel()
	err = wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s is unmounted, but its process (pid %d) has not ended within %s; its log may say why: %s",
			mountpoint, status.Daemon.PID, umountPatience, status.Daemon.Log)
	}
	return err
}

// awaitEnd returns what waits for the end of a daemon: its process, where this
// one can look at it, else its lock. Call it before the mount ends, when the
// pid is still the daemon's.
func awaitEnd(d daemonReport) func(context.Context) error {
	fd, err := unix.PidfdOpen(d.PID, 0)
	if err == nil {
		return func(ctx context.Context) error { return awaitProcess(ctx, fd) }
	}
	return func(ctx context.Context) error {
		if d.Index == memoryIndex {
			return nil
		}
		return daemon.WaitFree(ctx, d.Index)
	}
}

// awaitProcess waits for the end of the process behind a pidfd.
func awaitProcess(ctx context.Context, fd int) error {
	ended := make(chan error, 1)
	go func() {
		process := os.NewFile(uintptr(fd), "pidfd")
		defer process.Close()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
