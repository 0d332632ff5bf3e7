package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"rbdbackupfs/internal/progress"
)

// The exit codes, as the help of the root command lists them.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitDamaged = 3
)

const rootHelp = `rbdbackupfs shows a directory of Ceph RBD exports ("rbd export", "rbd export-diff")
as a file system in which every snapshot of every image is an ordinary file:
no cluster is needed, nothing is copied, and the backup files are never changed.

    rbdbackupfs mount REPO MOUNTPOINT      show the backups below REPO at MOUNTPOINT
    ls MOUNTPOINT/images                   one folder an image, one file a snapshot
    rbdbackupfs files REPO IMAGE:/PATH     list and copy out files, without mounting
    rbdbackupfs restore REPO IMAGE TARGET  bring an image back: to Ceph, or to a file
    rbdbackupfs umount MOUNTPOINT

Exit status:
    0  fine
    1  error: the message says what to do next
    2  usage: an unknown command, flag or argument
    3  done, but something in REPO is damaged or incomplete ("ls", "layout",
       "status"), or a restore has to be recovered ("jobs")`

// An app is one run of the program.
type app struct {
	args    []string // without the program's name
	stdout  io.Writer
	stderr  io.Writer
	backend backend
	now     func() time.Time
	usable  time.Duration // how long "mount" waits for all chains to be known
}

// An exitCode ends the program without a message: it was given already.
type exitCode int

// Error is for debugging only; run never prints it.
func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run runs one command line, without the program's name, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{args: args, stdout: stdout, stderr: stderr, backend: realBackend(), now: time.Now, usable: usablePatience}
	return a.run(ctx)
}

func (a *app) run(ctx context.Context) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	parsed := false
	root := a.rootCommand()
	root.PersistentPreRun = func(*cobra.Command, []string) { parsed = true }
	root.SetArgs(a.args)
	command, err := root.ExecuteContextC(ctx)
	if code := exitCode(0); err == nil || errors.As(err, &code) {
		return int(code)
	}
	if !parsed {
		a.complain(fmt.Sprintf("%s; see: %s --help", explain(err), command.CommandPath()))
		return exitUsage
	}
	var usage usageError
	if errors.As(err, &usage) {
		a.complain(fmt.Sprintf("%s; see: %s --help", usage, command.CommandPath()))
		return exitUsage
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		a.complain("interrupted")
		return exitError
	}
	a.complain(explain(err))
	return exitError
}

// between checks the number of arguments, and names them when it is wrong.
func between(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		_, names, _ := strings.Cut(c.Use, " ")
		if names == "" {
			names = "no arguments"
		}
		return fmt.Errorf("%s takes %s, and %s", c.CommandPath(), names, given(args))
	}
}

func given(args []string) string {
	switch len(args) {
	case 0:
		return "there is none"
	case 1:
		return "there is only " + args[0]
	}
	return fmt.Sprintf("there are %d: %s", len(args), strings.Join(args, " "))
}

// A usageError is a mistake on the command line that the flag parser can't see.
type usageError string

// Error is the mistake.
func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "rbdbackupfs",
		Short:         "Every snapshot in a directory of Ceph RBD exports, as a file",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.AddCommand(a.mountCommand(), a.umountCommand(), a.lsCommand(), a.layoutCommand(), a.browseCommand(), a.filesCommand(), a.restoreCommand(), a.jobsCommand(), a.statusCommand(), a.versionCommand(), a.docsCommand())
	return root
}

// complain writes one line to stderr, and below it the indented ones of the
// message: a list of who uses a mount.
func (a *app) complain(message string) {
	for i, line := range strings.Split(message, "\n") {
		if i == 0 {
			line = "rbdbackupfs: " + line
		}
		fmt.Fprintln(a.stderr, printable(line))
	}
}

// explain is the message of err with what to do about it; joined errors, which
// have lines of their own, come on one.
func explain(err error) string {
	message := err.Error()
	if hint := hint(err); hint != "" && !strings.Contains(message, hint) {
		message += "; " + hint
	}
	lines := strings.Split(message, "\n")
	message = lines[0]
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, "  ") {
			message += "\n" + line
		} else {
			message += "; " + line
		}
	}
	return message
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress starts to report on stderr.
func (a *app) progress(what string) *progress.Reporter {
	return progress.New(a.stderr, terminal(a.stderr), what, a.now)
}
