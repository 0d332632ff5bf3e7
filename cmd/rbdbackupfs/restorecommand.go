package main

import (
	"math"

	"github.com/spf13/cobra"
)

// restoreArgs are those before TARGET, of a repository.
const restoreArgs = "REPO|MOUNTPOINT IMAGE[@SNAPSHOT]"

const restoreHelp = `restore brings an image back as it was at SNAPSHOT, or at its latest one:

    ceph:POOL/[NAMESPACE/]IMAGE   into a cluster, as a new image
    file:PATH                     as a new, sparse raw file; needs no cluster
    -                             as raw bytes to stdout

It comes from a repository, or from FILEs: the backup files of one image, in any
order, wherever they lie and whatever they are called, also compressed (gzip,
zstd, lz4, xz, bzip2). Each of them has to be needed: if one isn't, nothing is
restored, and the message says why. A file without a banner that consists of
whole sectors is a raw export; --link FILE=SNAPSHOT says what it was made of.

Which cluster, and as whom, may stand behind the image, each of it optional:
ceph:rbd/vm1?conf=/etc/ceph/b.conf&user=restore&cluster=b

Nothing appears at the target before all of it is there and durable. What fails,
or is interrupted by Ctrl-C, is undone; what a crash leaves, "rbdbackupfs jobs
--recover" ends.

With --all-snapshots the new image gets every snapshot on the way from the first
full export to SNAPSHOT, with their names, oldest first. A raw file only
remembers the last of them. The image's metadata comes back where the backup has
it.

While the repository is mounted, the bytes come through the mount. Otherwise
restore reads the headers of new files first, as ls does.

FILEs are read anew each time. "rbdbackupfs jobs" knows what was restored from
them by their folder: the deepest one that they have in common. What is hard to
reach in compressed ones is kept in $TMPDIR or /var/tmp while they are read.`

type restoreOptions struct {
	repoFlags
	all      bool
	features string
	snapshot string // of FILEs
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	c := &cobra.Command{
		Use:   "restore (" + restoreArgs + " | FILE...) TARGET",
		Short: "Restore a snapshot to a cluster, a raw file or stdout",
		Long:  restoreHelp,
		Example: `  rbdbackupfs restore /srv/backup rbd/vm1@monday ceph:rbd/vm1-restored
  rbdbackupfs restore --all-snapshots /mnt/backups rbd/vm1 ceph:rbd/vm1
  rbdbackupfs restore /srv/backup rbd/vm1 file:/tmp/vm1.img
  rbdbackupfs restore /srv/backup rbd/vm1@monday - | dd of=/dev/vg/vm1 bs=4M
  rbdbackupfs restore vm1-full.raw.zst vm1-tue.diff.gz ceph:rbd/vm1
  rbdbackupfs restore export.rbd2 file:/tmp/vm1.img
  rbdbackupfs restore full.diff inc.diff - > image`,
		Args: between(2, math.MaxInt),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.newRestoringOf(c, args, o)
			if err != nil {
				return err
			}
			return r.run(c.Context())
		},
		ValidArgsFunction: a.completeRestore,
	}
	o.add(c.Flags())
	completeLayout(c)
	c.Flags().BoolVar(&o.all, "all-snapshots", false, "restore every snapshot from the first full export to SNAPSHOT")
	c.Flags().StringVar(&o.snapshot, "snapshot", "", "`name` of the one to restore from FILEs (default the latest)")
	addFeatures(c.Flags(), &o.features)
	return c
}

// newRestoringOf takes the first argument for what it is: a file, or a folder.
func (a *app) newRestoringOf(c *cobra.Command, args []string, o restoreOptions) (*restoring, error) {
	loose, err := isLoose(args[0])
	if err != nil {
		return nil, err
	}
	last := len(args) - 1
	if !loose {
		switch {
		case len(args) != 3:
			return nil, usagef("%s takes %s TARGET, or only files before TARGET, and %s", c.CommandPath(), restoreArgs, given(args))
		case o.snapshot != "":
			return nil, usagef("--snapshot is for FILE...; say %s@%s", args[1], o.snapshot)
		}
		return a.newRestoring(args[0], args[1], args[2], o)
	}
	r, err := a.newRestoring("", "", args[last], o)
	if err != nil {
		return nil, err
	}
	if r.loose, err = findLoose(args[:last]); err != nil {
		return nil, err
	}
	for _, flag := range o.given() {
		if flag != "--link" && flag != "--trust-names" {
			return nil, usagef("%s is for REPO; FILEs are one image, whatever they are called", flag)
		}
	}
	// Before a target is opened: it may take a while.
	_, err = r.loose.links(o.repoFlags)
	r.image = r.imageName()
	return r, err
}

// completeRestore offers images behind a mountpoint, and files else.
func (a *app) completeRestore(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if loose, err := isLoose(args[0]); err == nil && loose {
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	return a.completeImages(c, args, word)
}
