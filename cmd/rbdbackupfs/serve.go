package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/fs"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/overlay"
	"rbdbackupfs/internal/target"
)

const (
	// usablePatience is how long "mount" waits before it says "so far".
	usablePatience = 5 * time.Second
	// unmountRetry is how often a busy mount is tried again after a signal.
	unmountRetry = 500 * time.Millisecond
)

// errOrphan: the command that started this in the background is gone.
var errOrphan = errors.New("the command that mounts was killed; mount again")

// A mounter is one run of "mount": everything from the repository to the end.
type mounter struct {
	app        *app
	o          *mountOptions
	repo       string // absolute
	mountpoint string // absolute
	tree       treeOptions
	importTo   *targetURL // nil: no import/
	features   []string   // of images that are restored; nil: the export's own

	log     *logSink
	session *session
	imports *imports       // nil without importTo
	server  *daemon.Server // nil for an index in memory
	source  *localSource
	scratch *overlay.Store // nil without scratch/
	kept    []overlay.Name // what was there at the start
	mounted tree
}

// gcPercent is how much garbage a mount may collect on top of what it needs.
// Most of that is there for the whole life of the mount, so Go's default of
// 100 would double it.
const gcPercent = 40

// run serves the mount until its end.
func (m *mounter) run(ctx context.Context) (err error) {
	debug.SetGCPercent(gcPercent)
	signal.Ignore(unix.SIGPIPE) // "mount ... | head -1" closes our output, not the mount
	var parent *daemon.Parent
	if m.o.readyFD != 0 {
		if parent, err = daemon.OpenParent(m.o.readyFD); err != nil {
			return err
		}
	}
	if m.log, err = m.o.log.open(parent != nil, m.app.stderr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.log.Close()) }()
	repo, err := m.app.backend.OpenRepo(m.repo, repoOptions{Rescan: m.o.rescan, Log: m.log.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repo.Close()) }()
	if err := m.open(ctx, repo); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.session.Close()) }()
	if m.imports != nil {
		defer func() { err = errors.Join(err, m.imports.Close()) }()
	}
	if err := m.openScratch(repo); err != nil {
		return err
	}
	if m.scratch != nil {
		defer func() { err = errors.Join(err, m.closeScratch()) }()
	}
	if err := m.listen(); err != nil {
		return err
	}
	if m.server != nil {
		defer func() { err = errors.Join(err, m.server.Close()) }()
	}
	err = m.serve(ctx, parent)
	if m.o.untilIdle {
		_ = os.Remove(m.mountpoint) // made for this; another one may be on its way
	}
	return err
}

// open opens the target of imports and the session. A target that can't be used
// is told of before anything is mounted, or even indexed.
func (m *mounter) open(ctx context.Context, repo repository) error {
	o, err := m.places(repo)
	if err != nil {
		return err
	}
	var to target.Target
	if m.importTo != nil {
		if to, err = m.app.backend.OpenTarget(ctx, *m.importTo, m.log.Logger); err != nil {
			return err
		}
	}
	if err = m.openSession(ctx, repo, o); err == nil {
		if err = m.startImports(to); err != nil {
			err = errors.Join(err, m.session.Close())
		}
	}
	if err != nil && to != nil {
		err = errors.Join(err, to.Close())
	}
	return err
}

// places chooses the index, and makes sure that nothing lies in anything else.
func (m *mounter) places(repo repository) (libraryOptions, error) {
	index, err := m.o.indexFolder(m.app.backend, repo)
	if err != nil {
		return libraryOptions{}, err
	}
	o, err := m.o.library(m.app.backend, repo, index)
	if err != nil {
		return o, err
	}
	if o.Layout, err = m.o.choose(index, repo.Root()); err != nil {
		return o, err
	}
	places := []place{{"REPO", repo.Root()}, {"MOUNT", m.mountpoint}}
	if o.Index != memoryIndex {
		places = append(places, place{"index", o.Index})
	}
	if o.Cache != "" && m.o.cache != "" {
		places = append(places, place{"cache", o.Cache})
	}
	scratch, err := m.o.scratch.folder(repo, index)
	if err != nil {
		return o, err
	}
	if scratch != "" && m.o.scratch.dir != "" {
		places = append(places, place{"scratch", scratch})
	}
	if m.importTo != nil && m.importTo.kind == kindFolder {
		places = append(places, place{"the target of --import", m.importTo.path})
	}
	return o, m.app.backend.CheckOverlap(places...)
}

// openSession locks the index and starts to read the repository. That goes on
// until the end of the mount, and not just until a signal asks for it.
func (m *mounter) openSession(ctx context.Context, repo repository, o libraryOptions) (err error) {
	owner := daemon.Owner{PID: os.Getpid(), Command: "mount", Started: m.app.now(), Mountpoint: m.mountpoint}
	m.session, err = openSession(ctx, repo, o, owner, m.log.Logger)
	if locked := (*daemon.LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("%w; %s", locked, lockedCure(locked.Owner))
	}
	if err != nil {
		return err
	}
	if err := m.log.UseFolder(o.Index); err != nil {
		return errors.Join(err, m.session.Close())
	}
	m.source = &localSource{lib: m.session.lib, layout: o.Layout, journal: journalOf(o.Index), daemon: daemonReport{
		PID: os.Getpid(), Started: m.app.now(), Version: newVersionReport("").Version,
		Mountpoint: m.mountpoint, Index: o.Index, Log: m.log.where,
	}}
	if o.Index != memoryIndex {
		m.source.daemon.Socket = daemon.SocketPath(o.Index)
	}
	return nil
}

func lockedCure(owner daemon.Owner) string {
	if owner.Mount() {
		return "umount that first, or give this one another index with --index DIR"
	}
	return "try again when it is done, or give this one another index with --index DIR"
}

// listen answers other processes, where the index has a folder.
func (m *mounter) listen() error {
	if m.session.lock == nil {
		return nil
	}
	listener, err := m.session.lock.Listen()
	if err != nil {
		return err
	}
	m.server = daemon.NewServer(m.source.routes(), m.log.Logger)
	go func() {
		if err := m.server.Serve(listener); err != nil {
			m.log.Error("other commands get no answers", slog.String("socket", m.source.daemon.Socket), slog.Any("error", err))
		}
	}()
	return nil
}

// serve mounts, says so, and waits for the end.
func (m *mounter) serve(ctx context.Context, parent *daemon.Parent) error {
	m.tree.Status = m.statusFile
	m.tree.Log = m.log.Logger
	var err error
	if m.mounted, err = m.session.lib.Mount(m.mountpoint, m.tree); err != nil {
		return err
	}
	go m.indexed()
	complete, err := m.usable(ctx, parent)
	if err == nil {
		err = m.announce(complete, parent)
	}
	if err != nil {
		return errors.Join(err, m.stop())
	}
	m.log.Info("mounted", slog.String("repo", m.session.root), slog.String("mountpoint", m.mountpoint), slog.String("index", m.session.index))
	err = m.last(ctx)
	m.log.Info("unmounted", slog.String("mountpoint", m.mountpoint))
	return err
}

// indexed logs which layout was taken, and returns what the first indexing took to
// the system.
func (m *mounter) indexed() {
	select {
	case <-m.session.lib.Idle():
		if status, err := m.source.Status(context.Background()); err == nil {
			m.log.Info("indexed", slog.Int("images", status.Images), slog.Int("snapshots", status.Snapshots), slog.String("layout", status.Layout.String()))
		}
		debug.FreeOSMemory()
	case <-m.mounted.Done():
	}
}

// last waits for the end of the mount, whoever ends it.
func (m *mounter) last(ctx context.Context) error {
	failed := m.session.failed
	var unused <-chan struct{}
	if m.o.untilIdle {
		unused = m.mounted.Unused()
	}
	for {
		select {
		case <-m.mounted.Done():
			return nil
		case <-unused:
			return m.stop()
		case err, broken := <-failed:
			failed = nil
			if broken {
				m.log.Error("the repository is no longer watched; what is known of it is still served", slog.Any("error", err))
			}
		case <-ctx.Done():
			return m.stop()
		}
	}
}

// usable waits until the tree can be used, and reports whether everything is
// in it.
func (m *mounter) usable(ctx context.Context, parent *daemon.Parent) (complete bool, err error) {
	if parent != nil {
		var stop context.CancelCauseFunc
		ctx, stop = context.WithCancelCause(ctx)
		defer stop(nil)
		// Who is killed in the meantime learns of nothing: nobody would end it.
		go func() {
			select {
			case <-parent.Gone():
				stop(errOrphan)
			case <-ctx.Done():
			}
		}()
	}
	w := waiting{until: m.session.lib.Idle(), gone: m.mounted.Done(), progress: true}
	if !m.o.wait {
		w.limit = m.app.usable
		// Before Listed it isn't known which images there are, and none is pending.
		listed := m.session.lib.Listed()
		w.enough = func() bool {
			select {
			case <-listed:
				return m.session.lib.Status().Pending == 0
			default:
				return false
			}
		}
	}
	return m.app.await(ctx, m.session, w)
}

// stop ends the mount, after a signal. It tries until nobody uses it any more.
// A second signal detaches it, and a third doesn't wait for the last user.
func (m *mounter) stop() error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	m.notify(daemon.NotifyStopping)
	return m.unmount(signals)
}

func (m *mounter) unmount(signals <-chan os.Signal) error {
	retry := time.NewTicker(unmountRetry)
	defer retry.Stop()
	for told := false; ; {
		err := m.mounted.Unmount()
		if err == nil || !errors.Is(err, fs.ErrBusy) {
			return err
		}
		if !told {
			told = true
			m.log.Warn("in use; the mount ends as soon as nobody uses it, a second signal detaches it", slog.Any("error", err))
		}
		select {
		case <-m.mounted.Done():
			return nil
		case <-signals:
			return m.detach(signals)
		case <-retry.C:
		}
	}
}

func (m *mounter) detach(signals <-chan os.Signal) error {
	if err := m.app.backend.Detach(m.mountpoint); err != nil {
		return err
	}
	m.log.Warn("detached; this process ends when the last user is done, or at the next signal")
	select {
	case <-m.mounted.Done():
	case <-signals:
	}
	return nil
}

// statusFile is the contents of status.json.
func (m *mounter) statusFile() ([]byte, error) {
	report, err := m.source.Status(context.Background())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = writeJSON(&b, report)
	return b.Bytes(), err
}

// notify tells systemd, where it has started this.
func (m *mounter) notify(state string) {
	if err := daemon.Notify(os.Getenv("NOTIFY_SOCKET"), state); err != nil {
		m.log.Warn("systemd can't be told", slog.String("state", state), slog.Any("error", err))
	}
}
