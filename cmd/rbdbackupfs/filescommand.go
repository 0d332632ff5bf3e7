package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"rbdbackupfs/internal/guestfs"
)

const filesHelp = `files looks into the file system on an image as it was at SNAPSHOT, or at its
latest one, and lists PATH or copies it to DEST. It needs no root, no loop
device and no mount: it reads ext2, ext3, ext4 and FAT itself.

    files REPO vm1@monday:/etc/          what is in the folder, like ls -l
    files REPO vm1@monday:/etc/ DEST     copy the folder, like cp -a
    files REPO vm1@monday:/etc/hosts -   one file to stdout

PATH begins at the first ":/" before which there is the name of an image or of a
snapshot; without it, it is "/". Symbolic links in PATH lead where they lead in
the guest; one at its end is followed only if PATH ends in "/", or for stdout.

DEST is the new file or folder; where a folder is there already, the copy comes
into it, under its own name. "/" has none: all that is in it comes into DEST,
which may be an empty folder. Nothing that is there already is overwritten.
Modes, times, symbolic and hard links and holes are copied, for root also
owners. Left out are devices, sockets, pipes, extended attributes and the
set-user-ID bits of programs. What can't be read is named on stderr, the rest is
copied, and the exit status is 1.

An image with partitions: the only one with a file system that can be read is
taken, an EFI system partition apart; otherwise say --partition.

A file system that was in use when the snapshot was made has changes in its
journal. It is replayed, in memory; where that can't be done, a warning says so,
and what is in it isn't seen.`

type filesOptions struct {
	repoFlags
	json, recursive bool
	partition       int // noPartition: find it
}

// noPartition is --partition when it isn't given; 0 is the whole image.
const noPartition = -1

func (a *app) filesCommand() *cobra.Command {
	var o filesOptions
	c := &cobra.Command{
		Use:   "files REPO|MOUNTPOINT IMAGE[@SNAPSHOT][:/PATH] [DEST]",
		Short: "List and copy out files of a snapshot, without mounting it",
		Long:  filesHelp,
		Example: `  rbdbackupfs files /srv/backup rbd/vm1@monday:/etc/
  rbdbackupfs files /srv/backup rbd/vm1@monday:/etc/fstab -
  rbdbackupfs files /mnt/backups rbd/vm1:/home/user/ /tmp/user
  rbdbackupfs files --recursive /srv/backup rbd/vm1:/etc | grep passwd
  rbdbackupfs files --partition 2 /srv/backup rbd/vm1:/var/log/ .`,
		Args: between(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			f := &filesRun{app: a, o: o, repo: args[0], wanted: args[1]}
			if len(args) == 3 {
				f.dest = args[2]
			}
			return f.run(c.Context())
		},
		ValidArgsFunction: a.completeFiles,
	}
	o.add(c.Flags())
	completeLayout(c)
	c.Flags().IntVar(&o.partition, "partition", noPartition, "`number` of the partition, 0 for the whole image")
	c.Flags().BoolVarP(&o.recursive, "recursive", "r", false, "list also what is in the folders below")
	c.Flags().BoolVar(&o.json, "json", false, "list as JSON")
	return c
}

// completeFiles offers images, and files for DEST.
func (a *app) completeFiles(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 2 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeImages(c, args, word)
}

// A filesRun is one run of "files".
type filesRun struct {
	app    *app
	o      filesOptions
	repo   string // as the user gave it
	wanted string // IMAGE[@SNAPSHOT][:/PATH]
	dest   string // "" for a list

	src  source
	root string // of the repository

	image    string
	snapshot pathReport
	view     snapshotView
	part     *guestPartition // nil for the whole image
	guest    *guestfs.FileSystem
	path     string // in the guest
}

func (f *filesRun) run(ctx context.Context) (err error) {
	switch {
	case f.dest != "" && (f.o.json || f.o.recursive):
		return usagef("--json and --recursive are for lists; a folder is always copied with all that is in it")
	case f.o.partition < noPartition:
		return usagef("--partition %d: partitions are counted from 1", f.o.partition)
	}
	log := slog.New(slog.NewTextHandler(f.app.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if f.src, f.root, err = f.app.openSource(ctx, f.repo, "files", f.o.repoFlags, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.src.Close()) }()
	if err := f.find(ctx); err != nil {
		return err
	}
	f.warnOfSuspicion(ctx)
	if f.view, err = f.src.View(ctx, f.image, f.snapshot); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.view.Close()) }()
	if err := f.openGuest(viewReader{ctx, f.view}); err != nil {
		return f.nameDamage(ctx, err)
	}
	file, err := f.guest.Lookup(f.path, f.dest == stdoutDest)
	if err != nil {
		return f.nameDamage(ctx, f.notFound(err))
	}
	switch f.dest {
	case "":
		err = f.list(ctx, file)
	case stdoutDest:
		err = f.toStdout(ctx, file)
	default:
		err = f.copyOut(ctx, file)
	}
	return f.nameDamage(ctx, err)
}

// find takes what is before each ":/" for the name of a snapshot, until there is one:
// names may hold one as well.
func (f *filesRun) find(ctx context.Context) error {
	var first error
	for from := 0; ; {
		name, path, next := f.wanted, "/", -1
		if at := strings.Index(f.wanted[from:], ":/"); at >= 0 {
			name, path, next = f.wanted[:from+at], f.wanted[from+at+1:], from+at+1
		}
		if next < 0 && first != nil {
			return first
		}
		image, snapshots, err := findPath(ctx, f.src, f.root, name)
		if err == nil {
			f.image, f.path, f.snapshot = image, path, snapshots[len(snapshots)-1]
			return nil
		}
		if !errors.Is(err, errNoSuchName) || next < 0 {
			return err
		}
		if first == nil {
			first = err
		}
		from = next
	}
}

// label names the snapshot.
func (f *filesRun) label() string { return f.image + "@" + f.snapshot.Label }

// warnings and damage are those that restore tells of.
func (f *filesRun) asRestoring() *restoring {
	return &restoring{app: f.app, src: f.src, root: f.root, image: f.image, path: []pathReport{f.snapshot}}
}

func (f *filesRun) warnOfSuspicion(ctx context.Context) { f.asRestoring().warn(ctx) }

func (f *filesRun) nameDamage(ctx context.Context, err error) error {
	return f.asRestoring().nameDamage(ctx, err)
}

// A viewReader is a view without its context.
type viewReader struct {
	ctx  context.Context
	view snapshotView
}

// ReadAt reads from the snapshot.
func (r viewReader) ReadAt(p []byte, off int64) (int, error) { return r.view.ReadAt(r.ctx, p, off) }

var _ io.ReaderAt = viewReader{}

// say warns on stderr.
func (f *filesRun) say(format string, args ...any) {
	fmt.Fprintln(f.app.stderr, printable("warning: "+fmt.Sprintf(format, args...)))
}
