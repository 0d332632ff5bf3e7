package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/shellword"
)

const browseHelp = `browse mounts the file system in a snapshot at DIR, read-only, with the programs
of the system (losetup, blkid, mount), and so takes root. "umount DIR" undoes
all.

The disk of a machine that was running has a journal, which is replayed first.
That is written to MOUNTPOINT/scratch, never to the backup; what was written
there before is seen at DIR as well, and "rm" of the file there drops it. Where
no mount shows REPO one is made for as long as DIR is in use.

Of a partitioned disk it takes the only partition that has a file system, or
the one that --partition names; if there are several it lists them. Without
root, and without loop devices, "rbdbackupfs files" gets at the files.`

// hiddenMounts is where browse mounts repositories that nobody has mounted.
const hiddenMounts = "/run/rbdbackupfs"

type browseOptions struct {
	repoFlags
	partition int
}

func (a *app) browseCommand() *cobra.Command {
	var o browseOptions
	c := &cobra.Command{
		Use:   "browse REPO|MOUNTPOINT IMAGE[@SNAPSHOT] DIR",
		Short: "Mount the file system in a snapshot, to get files back",
		Long:  browseHelp,
		Example: `  rbdbackupfs browse /srv/backup rbd/vm1@monday /mnt/monday
  cp -a /mnt/monday/etc/fstab .
  umount /mnt/monday
  rbdbackupfs browse --partition 2 /mnt/backups rbd/vm1 /mnt/vm1`,
		Args: between(3, 3),
		RunE: func(c *cobra.Command, args []string) error {
			b := browsing{app: a, o: &o, flags: c.Flags(), path: args[0], image: args[1], dir: args[2]}
			return b.run(c.Context())
		},
		ValidArgsFunction: a.completeImages,
	}
	o.add(c.Flags())
	completeLayout(c)
	c.Flags().IntVar(&o.partition, "partition", 0, "`number` of the partition to mount")
	return c
}

// A browsing is one run of "browse".
type browsing struct {
	app   *app
	o     *browseOptions
	flags *pflag.FlagSet
	path  string // REPO or MOUNTPOINT
	image string // IMAGE[@SNAPSHOT]
	dir   string

	mountpoint string // of ours
	hidden     bool   // it was made for this
	turn       *os.File
}

func (b *browsing) run(ctx context.Context) (err error) {
	if err := b.check(); err != nil {
		return err
	}
	defer func() {
		if b.turn != nil {
			err = errors.Join(err, b.turn.Close())
		}
	}()
	for range 2 {
		// The mount of another browse may end while it is looked into.
		if err = b.browse(ctx); err == nil || b.hidden || !within(b.mountpoint, hiddenMounts) || !ended(b.mountpoint) {
			return err
		}
	}
	return err
}

func (b *browsing) browse(ctx context.Context) (err error) {
	if err := b.findMount(ctx); err != nil {
		return err
	}
	if b.hidden {
		defer func() {
			if err != nil {
				_ = b.app.backend.Umount(b.mountpoint) // in use by another one, at worst
			}
		}()
	}
	name, scratch, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	file, err := b.hold(scratch)
	if err != nil {
		return err
	}
	// Open until the loop device has it: the mount may end with the last user.
	defer func() { err = errors.Join(err, file.Close()) }()
	part, err := choosePart(ctx, file, name, scratch, b.o.partition)
	if err != nil {
		return err
	}
	if err := notAttached(scratch, part); err != nil {
		return err
	}
	if err := part.mount(ctx, scratch, b.dir); err != nil {
		return err
	}
	fmt.Fprintln(b.app.stdout, printable(fmt.Sprintf("%s, %s, is at %s, read-only; to end that: umount %s", name, part, b.dir, shellword.Word(b.dir))))
	return nil
}

// check looks at what can't work before anything is begun.
func (b *browsing) check() error {
	if err := b.o.check(); err != nil {
		return err
	}
	if b.o.index == memoryIndex {
		return usagef("browse needs an index in a folder, which the mount and others share")
	}
	if b.flags.Changed("partition") && b.o.partition < 1 {
		return usagef("--partition %d: partitions are counted from 1", b.o.partition)
	}
	if os.Geteuid() != 0 {
		return errors.New("browse mounts file systems, which takes root; without it, see: rbdbackupfs files --help")
	}
	dir, err := resolvePath(b.dir)
	if err != nil {
		return err
	}
	b.dir = dir
	switch info, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s doesn't exist; make it with: mkdir -p %s", dir, shellword.Word(dir))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", dir)
	}
	return nil
}

// findMount finds the mount that shows the repository, or makes one.
func (b *browsing) findMount(ctx context.Context) error {
	resolved, mountpoint, err := findMount(b.path)
	switch {
	case err != nil:
		return err
	case mountpoint != "" && mountpoint != resolved:
		return insideMount(resolved, mountpoint)
	case mountpoint != "":
		b.mountpoint = mountpoint
		return nil
	}
	repo, err := b.app.backend.OpenRepo(resolved, repoOptions{Log: nil})
	if err != nil {
		return err
	}
	index, err := b.o.indexFolder(b.app.backend, repo)
	hidden := filepath.Join(hiddenMounts, repo.ID())
	if err := errors.Join(err, repo.Close()); err != nil {
		return err
	}
	if err := b.takeTurn(ctx, hidden); err != nil {
		return err
	}
	if owner, held := daemon.Holder(index); held && owner.Mountpoint == hidden && ended(hidden) {
		// Its last user has gone.
		wait, cancel := context.WithTimeout(ctx, umountPatience)
		defer cancel()
		if err := daemon.WaitFree(wait, index); err != nil {
			return err
		}
	}
	if owner, held := daemon.Holder(index); held && owner.Mount() {
		b.app.tellIgnored(&b.o.layoutFlags, index, owner)
		b.mountpoint = owner.Mountpoint
		return nil
	}
	return b.mountHidden(ctx, resolved, hidden)
}

// takeTurn waits for others who are about to mount the same repository, until they use
// it: it is found then.
func (b *browsing) takeTurn(ctx context.Context, hidden string) (err error) {
	if b.turn != nil {
		return nil
	}
	if err := os.MkdirAll(hiddenMounts, 0o700); err != nil {
		return err
	}
	if b.turn, err = os.OpenFile(hidden+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(b.turn.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mountHidden mounts the repository for as long as what it shows is in use.
func (b *browsing) mountHidden(ctx context.Context, repo, hidden string) error {
	if err := os.MkdirAll(hidden, 0o700); err != nil {
		return err
	}
	args := []string{"rbdbackupfs", "mount", fmt.Sprintf("--ready-fd=%d", daemon.ReadyFD), "--until-unused"}
	b.flags.Visit(func(f *pflag.Flag) {
		if f.Name == "partition" {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			args = append(args, "--"+f.Name+"="+value)
		}
	})
	args = append(args, repo, hidden)
	code, err := daemon.Background(ctx, daemon.Command{Path: "/proc/self/exe", Args: args, Stdout: io.Discard, Stderr: b.app.stderr})
	if err == nil && code != exitOK {
		err = exitCode(code)
	}
	b.mountpoint, b.hidden = hidden, err == nil
	return err
}

// snapshot finds the snapshot, and its file in scratch/.
func (b *browsing) snapshot(ctx context.Context) (name, scratch string, err error) {
	status, err := mountStatus(ctx, b.mountpoint)
	if err != nil {
		return "", "", err
	}
	if status.Scratch == nil {
		return "", "", fmt.Errorf("the mount at %s has no scratch/; mount it anew without --no-scratch, and with an index in a folder or --scratch DIR", b.mountpoint)
	}
	src := &remoteSource{daemon.NewClient(status.Daemon.Socket), b.mountpoint, status.Daemon.Index}
	if status.Daemon.Socket == "" {
		return "", "", fmt.Errorf("the mount at %s has its index in memory and can't be asked; mount -o loop a file below %s", b.mountpoint, filepath.Join(b.mountpoint, scratchFolder))
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	image, path, err := findPath(ctx, src, status.Repo, b.image)
	if err != nil {
		return "", "", err
	}
	last := path[len(path)-1]
	for _, step := range path {
		if step.Trust == chain.TrustSuspicious {
			b.app.complain(fmt.Sprintf("%s@%s is suspicious; see: rbdbackupfs ls %s %s", image, last.Label, status.Repo, image))
			break
		}
	}
	below := strings.TrimPrefix(last.Path, "images/")
	return image + "@" + last.Label, filepath.Join(b.mountpoint, scratchFolder, below), nil
}

// hold opens the scratch file.
func (b *browsing) hold(scratch string) (*os.File, error) {
	file, err := os.OpenFile(scratch, os.O_RDWR, 0)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("the mount at %s is read-only, and a journal can't be replayed there; mount it anew without -o ro", b.mountpoint)
	}
	status, unknown := mountStatus(context.Background(), b.mountpoint)
	if unknown != nil || status.Scratch == nil {
		return nil, err
	}
	for _, f := range status.Scratch.Files {
		if filepath.Join(b.mountpoint, f.Path) == scratch && f.Withheld != "" {
			return nil, errors.New(f.line(b.mountpoint))
		}
	}
	return nil, err
}

// notAttached refuses a part of a scratch file that a loop device has: two file systems
// on it would destroy what they write.
func notAttached(scratch string, p part) error {
	for _, h := range fs.LoopDevices(scratch) {
		if p.off < h.Off+h.Size && h.Off < p.off+p.size || h.Size == 0 {
			return fmt.Errorf("%s is in use already, and two file systems on it would destroy what they write. End that first\n  %s", p, h)
		}
	}
	return nil
}
