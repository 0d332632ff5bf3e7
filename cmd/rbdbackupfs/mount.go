package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rbdbackupfs/internal/daemon"
)

const mountHelp = `mount shows every image below REPO in a file system at MOUNTPOINT:

    MOUNTPOINT/images/IMAGE/SNAPSHOT.img   the image at that snapshot, read-only
    MOUNTPOINT/images/IMAGE/latest.img     a link to the tip of its chain
    MOUNTPOINT/scratch/IMAGE/SNAPSHOT.img  the same, and takes writes
    MOUNTPOINT/import/POOL/IMAGE           write an export here to restore it
    MOUNTPOINT/status.json                 what is served, indexed and damaged

It returns as soon as the tree can be used, after 5 seconds at the latest, and
goes on in the background. At the first mount of a repository it isn't known
which images there are before the headers of all files are read; who looks into
images/ waits for that. From then on, and with any other layout than auto, all
images appear at once, and opening one whose files are still being read waits.
With --wait it returns when everything is indexed. "rbdbackupfs umount" ends it.

A file in scratch/ takes writes and keeps them in a folder of its own; the
backup stays as it is. A disk that was in use when the snapshot was made can be
mounted from there, since its journal has to be replayed first. What is written
is still there after an umount. Removing the file drops it, and leaves a
pristine one; its size can't be changed.

With --import whatever is written into MOUNTPOINT/import is restored while it
is written: what "rbd export" and "rbd export-diff" gave, or an image's raw
bytes. It goes to a Ceph cluster (ceph:) or, without one, to sparse raw files
(file:DIR). An image becomes visible there as a whole, or not at all;
"rbdbackupfs jobs" shows how far each one has come.

-o takes the options of mount(8), and every flag of this command without its
dashes (-o allow_other,index=/var/cache/vm,rescan=1m), so that a line of
/etc/fstab can say all of it (a comma within a value has a backslash before it):

    /srv/backup  /mnt/backups  fuse.rbdbackupfs  noauto,allow_other  0 0

With --foreground it stays, logs to stderr, tells systemd when it is ready
(Type=notify), and ends on SIGINT or SIGTERM. While something uses the mount it
waits for that, and says what it is; a second signal detaches the mount from
the folder tree at once.`

// mountOptions are those of "mount".
type mountOptions struct {
	repoFlags
	log        logFlags
	imports    importFlags
	scratch    scratchFlags
	options    []string
	foreground bool
	wait       bool
	allowOther bool
	uid, gid   uint32
	umask      string
	lookupWait time.Duration
	readAhead  string
	readyFD    int
	untilIdle  bool
}

func (o *mountOptions) addFlags(flags *pflag.FlagSet) {
	o.add(flags)
	o.log.add(flags)
	o.imports.add(flags)
	o.scratch.add(flags)
	flags.StringArrayVarP(&o.options, "options", "o", nil, "mount `options`, separated by commas")
	flags.BoolVarP(&o.foreground, "foreground", "f", false, "stay in the foreground")
	flags.BoolVar(&o.wait, "wait", false, "return when everything is indexed")
	flags.BoolVar(&o.allowOther, "allow-other", false, "let other users in, as far as the modes do (default for root)")
	flags.Uint32Var(&o.uid, "uid", 0, "`number` of the user who owns the files (default: who mounts)")
	flags.Uint32Var(&o.gid, "gid", 0, "`number` of the group that owns the files (default: who mounts)")
	flags.StringVar(&o.umask, "umask", "000", "`octal` permissions to take from files (0440) and folders (0550)")
	flags.DurationVar(&o.rescan, "rescan", 0, "how often to look at all of REPO, besides being told of changes\n(default 5m, 30s on network file systems)")
	flags.DurationVar(&o.lookupWait, "lookup-wait", 10*time.Second, "how long opening an image waits for its files to be read, and images/ for\nwhich images there are")
	flags.StringVar(&o.readAhead, "read-ahead", "1MiB", "`size` that the kernel reads ahead, or \"kernel\"; root only")
	flags.IntVar(&o.readyFD, "ready-fd", 0, "descriptor to tell readiness on")
	flags.BoolVar(&o.untilIdle, "until-unused", false, "end when no scratch file is open any more, after one was")
	flags.Lookup("ready-fd").Hidden = true
	flags.Lookup("until-unused").Hidden = true
	flags.Lookup("rescan").DefValue = "0s"
}

func (a *app) mountCommand() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount REPO MOUNTPOINT",
		Short: "Show the backups below REPO as files at MOUNTPOINT",
		Long:  mountHelp,
		Example: `  rbdbackupfs mount /srv/backup /mnt/backups
  rbdbackupfs mount --wait /srv/backup /mnt/backups
  rbdbackupfs mount -o allow_other,uid=1000 /srv/backup /mnt/backups
  rbdbackupfs mount --link vm1/full-0101.img=0101 /srv/backup /mnt/backups
  mount -o loop /mnt/backups/scratch/vm1/0101.img /mnt/disk
  rbdbackupfs mount --import file:/srv/images /srv/backup /mnt/backups
  rbdbackupfs mount --import 'ceph:?user=restore' /srv/backup /mnt/backups
  cp vm1-full.diff /mnt/backups/import/rbd/vm1
  rbdbackupfs mount --foreground --log-format json /srv/backup /mnt/backups`,
		Args: between(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.mount(c.Context(), args[0], args[1], &o, c.Flags())
		},
	}
	o.addFlags(c.Flags())
	completeLayout(c)
	return c
}

// mount starts the background process, or is it.
func (a *app) mount(ctx context.Context, repo, mountpoint string, o *mountOptions, flags *pflag.FlagSet) error {
	m, err := a.newMounter(repo, mountpoint, o, flags)
	if err != nil {
		return err
	}
	if o.foreground || o.readyFD != 0 {
		return m.run(ctx)
	}
	code, err := daemon.Background(ctx, daemon.Command{
		Path:   "/proc/self/exe",
		Args:   append([]string{"rbdbackupfs", "mount", "--ready-fd=" + strconv.Itoa(daemon.ReadyFD)}, a.args[1:]...),
		Stdout: a.stdout, Stderr: a.stderr,
	})
	if err == nil && code != exitOK {
		err = exitCode(code)
	}
	return err
}

// newMounter checks the command line.
func (a *app) newMounter(repo, mountpoint string, o *mountOptions, flags *pflag.FlagSet) (*mounter, error) {
	m := &mounter{app: a, o: o}
	var err error
	if m.tree.Extra, err = takeFlags(o.options, flags); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.scratch.check(); err != nil {
		return nil, err
	}
	if _, err := o.log.check(); err != nil {
		return nil, err
	}
	if m.repo, err = resolvePath(repo); err != nil {
		return nil, err
	}
	if m.mountpoint, err = resolvePath(mountpoint); err != nil {
		return nil, err
	}
	if err := m.treeOptions(flags); err != nil {
		return nil, err
	}
	if m.importTo, m.features, err = o.imports.check(flags); err != nil {
		return nil, err
	}
	if err := a.backend.CheckTree(m.tree); err != nil {
		return nil, usagef("%s", explain(err))
	}
	return m, nil
}

func (m *mounter) treeOptions(flags *pflag.FlagSet) error {
	if flags.Changed("allow-other") {
		m.tree.AllowOther = &m.o.allowOther
	}
	if flags.Changed("uid") {
		m.tree.UID = &m.o.uid
	}
	if flags.Changed("gid") {
		m.tree.GID = &m.o.gid
	}
	if flags.Changed("import-uid") {
		m.tree.ImportUID = &m.o.imports.uid
	}
	if flags.Changed("import-gid") {
		m.tree.ImportGID = &m.o.imports.gid
	}
	umask, err := strconv.ParseUint(m.o.umask, 8, 32)
	if err != nil || umask > 0o777 {
		return usagef("--umask %q is not octal, such as 027", m.o.umask)
	}
	m.tree.Umask = uint32(umask)
	m.tree.LookupWait = m.o.lookupWait
	m.tree.ReadAhead, err = parseReadAhead(m.o.readAhead)
	return err
}

// parseReadAhead gives KiB, -1 for what the kernel does by itself.
func parseReadAhead(s string) (int, error) {
	const limit = 1 << 30
	if s == "kernel" {
		return -1, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n < 4096 || n > limit {
		return 0, usagef("--read-ahead %q is neither a size from 4KiB to 1GiB nor \"kernel\"", s)
	}
	return int(n >> 10), nil
}

// takeFlags sets the flags that -o options name, and returns the other options.
// An option has '_' where the flag has '-', or '-' as well.
func takeFlags(lists []string, flags *pflag.FlagSet) ([]string, error) {
	var rest []string
	for _, option := range splitOptions(lists) {
		name, value, hasValue := strings.Cut(option, "=")
		flag := flags.Lookup(strings.ReplaceAll(name, "_", "-"))
		if flag == nil || flag.Hidden || flag.Name == "options" || flag.Name == "help" {
			rest = append(rest, escapeOption(option))
			continue
		}
		if !hasValue {
			value = flag.NoOptDefVal
		}
		if err := flags.Set(flag.Name, value); err != nil {
			return nil, usagef("-o %s: %v", option, err)
		}
	}
	return rest, nil
}

// splitOptions splits at commas that have no backslash before them.
func splitOptions(lists []string) []string {
	var options []string
	for _, list := range lists {
		var b strings.Builder
		for i := 0; i < len(list); i++ {
			switch {
			case list[i] == '\\' && i+1 < len(list):
				i++
				b.WriteByte(list[i])
			case list[i] == ',':
				options = append(options, b.String())
				b.Reset()
			default:
				b.WriteByte(list[i])
			}
		}
		options = append(options, b.String())
	}
	return options
}

// escapeOption undoes splitOptions for the next one who splits.
func escapeOption(option string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(option)
}
