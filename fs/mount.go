package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"golang.org/x/sys/unix"
)

const (
	maxBackground = 32               // reads ahead in flight, 1 MiB each
	endWait       = 10 * time.Second // for the session to end after unmounting
	fuseConf      = "/etc/fuse.conf"
	fuseDevice    = "/dev/fuse"
)

// A Server is a mount that is being served.
type Server struct {
	tree       *tree
	fuse       *fuse.Server
	mountpoint string
	entry      mountEntry    // what mounting added
	done       chan struct{} // closed when all is over
	unmount    sync.Mutex    // one at a time
}

// Mount mounts lib at an existing, empty folder and serves it in the background.
// When it returns, the tree can be used. A stale mount of this program that is
// there is removed first. Root mounts by the system call, others through
// fusermount3. Errors are *Error: ErrMountpoint, ErrOption, ErrNoHelper,
// ErrNotAllowed, ErrNoAnswer.
//
// Whether places overlap is the caller's to ask: CheckOverlap.
func Mount(mountpoint string, lib Library, options Options) (*Server, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	path, err := prepareMountpoint(mountpoint, o)
	if err != nil {
		return nil, err
	}
	if err := checkAllowed(path, o); err != nil {
		return nil, err
	}
	t := newTree(lib, o)
	session, err := fuse.NewServer(fusefs.NewNodeFS(t.root, nodeOptions(o)), path, mountOptions(o))
	if err != nil {
		t.close()
		return nil, mountError(path, err)
	}
	s := &Server{tree: t, fuse: session, mountpoint: path, entry: entryAt(path), done: make(chan struct{})}
	// Before the first request is answered the kernel has nothing to invalidate.
	cancel := lib.Subscribe(t.changed)
	go s.serve(cancel)
	if err := s.ready(); err != nil {
		return nil, err
	}
	return s, nil
}

// entryAt is what was just mounted at path.
func entryAt(path string) mountEntry {
	p, err := resolvePlace(path)
	if err != nil {
		return mountEntry{}
	}
	entry, _ := p.mounted()
	return entry
}

// serve answers requests until the mount is gone.
func (s *Server) serve(unsubscribe func()) {
	s.fuse.Serve()
	unsubscribe()
	s.tree.close()
	close(s.done)
}

// ready waits until the mount can be used and tunes it.
func (s *Server) ready() error {
	// Fails for an owner that isn't this process. What it prevents, a Go program
	// blocking in poll, then prevents itself at the first other open.
	if err := s.fuse.WaitMount(); err != nil && !errors.Is(err, syscall.EACCES) {
		return errors.Join(&Error{Op: "mount", Path: s.mountpoint, Err: err}, s.Unmount())
	}
	o := s.tree.opts
	if os.Geteuid() != 0 || o.ReadAheadKB < 0 {
		return nil
	}
	if err := setReadAhead(s.mountpoint, o.ReadAheadKB); err != nil {
		o.Logger.Info("the kernel keeps its own read-ahead", slog.Any("error", err))
	}
	return nil
}

// Mountpoint is the absolute path, without symlinks.
func (s *Server) Mountpoint() string { return s.mountpoint }

// Wait returns when the mount is gone, whoever unmounted it, and nothing of it
// is open or running any more.
func (s *Server) Wait() { <-s.done }

// Done is closed when Wait returns.
func (s *Server) Done() <-chan struct{} { return s.done }

// Unmount unmounts and waits for the end. Where something uses the mount it
// goes on being served, and the *Error has ErrBusy and Holders.
func (s *Server) Unmount() error {
	s.unmount.Lock()
	defer s.unmount.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	clock := s.tree.opts.Clock
	if err := s.unmountOurs(clock); err != nil {
		return err
	}
	ctx, cancel := clock.WithTimeout(context.Background(), endWait)
	defer cancel()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return &Error{
			Op: "unmount", Path: s.mountpoint, Err: ErrBusy,
			Hint: "It is unmounted here, but still open or in another mount namespace, perhaps a container's",
		}
	}
}

// unmountOurs unmounts this mount and no other: somebody may have taken it away
// and mounted something else at the same place.
func (s *Server) unmountOurs(clock *Clock) error {
	mounted, err := s.onTop()
	if err != nil || !mounted {
		return err
	}
	err = unmountPath(s.mountpoint, clock)
	if err == nil || errors.Is(err, ErrBusy) {
		return err
	}
	if still, checkErr := s.onTop(); checkErr == nil && !still {
		return nil // somebody was quicker
	}
	return err
}

// onTop reports whether this mount is what is seen at the mountpoint. It is an
// error if it is there, under another.
func (s *Server) onTop() (bool, error) {
	p, err := resolvePlace(s.mountpoint)
	if err != nil {
		return false, &Error{Op: "unmount", Path: s.mountpoint, Err: err}
	}
	// Device numbers and ids are used again, so all has to be the same.
	if entry, mounted := p.mounted(); mounted && entry == s.entry {
		return true, nil
	}
	for _, entry := range p.mounts {
		if entry == s.entry {
			return false, &Error{Op: "unmount", Path: s.mountpoint, Err: ErrBusy,
				Hint: "Something else is mounted on the same folder: umount " + s.mountpoint}
		}
	}
	return false, nil
}

// nodeOptions leaves all timeouts to the nodes.
func nodeOptions(o Options) *fusefs.Options {
	return &fusefs.Options{
		NullPermissions: true,
		RootStableAttr:  &fusefs.StableAttr{Ino: makeIno(inoRoot, serialRoot, 0)},
		Logger:          slog.NewLogLogger(fuseLog{o.Logger.Handler()}, slog.LevelWarn),
	}
}

func mountOptions(o Options) *fuse.MountOptions {
	direct := os.Geteuid() == 0
	flags := o.flags
	if flags == 0 {
		flags = unix.MS_MGC_VAL // to go-fuse, zero means its default
	}
	return &fuse.MountOptions{
		AllowOther:        *o.AllowOther,
		Options:           o.kernelOptions(direct),
		MaxBackground:     maxBackground,
		MaxWrite:          o.maxRead,
		FsName:            o.FsName,
		Name:              Subtype,
		DirectMountStrict: direct,
		DirectMountFlags:  flags,
		// Pages of a snapshot are never out of date, so nothing has to look.
		ExplicitDataCacheControl: true,
		IgnoreSecurityLabels:     true,
		// Bytes are read into the reply's buffer; there is nothing to splice.
		DisableSplice: true,
		// Names only: ls of 100,000 snapshots in 1,000 images takes half the time and
		// a tenth of the memory; ls -l, which asks for each, two to three times as long.
		DisableReadDirPlus: true,
		Logger:             slog.NewLogLogger(fuseLog{o.Logger.Handler()}, slog.LevelWarn),
		PanicHandler: func(cause any) fuse.Status {
			o.Logger.Error("a request panicked", slog.String("cause", fmt.Sprint(cause)),
				slog.String("stack", string(debug.Stack())))
			return fuse.EIO
		},
	}
}

// checkAllowed says in words what mounting would only say as a number.
func checkAllowed(path string, o Options) error {
	if _, err := os.Stat(fuseDevice); err != nil {
		return &Error{Op: "mount", Path: path, Err: fmt.Errorf("%w: %w", ErrNotAllowed, err),
			Hint: "The kernel has no FUSE: modprobe fuse, or give the container " + fuseDevice}
	}
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Access(fuseDevice, unix.R_OK|unix.W_OK); err != nil {
		return &Error{Op: "mount", Path: path, Err: fmt.Errorf("%s: %w: %w", fuseDevice, ErrNotAllowed, err),
			Hint: "Have root run chmod 666 " + fuseDevice + ", its usual mode, or mount as root"}
	}
	if _, err := findHelper(); err != nil {
		return &Error{Op: "mount", Path: path, Err: err,
			Hint: "Install it (package fuse3), or mount as root, which needs none"}
	}
	if *o.AllowOther && !confAllowsOther(fuseConf) {
		return &Error{Op: "mount", Path: path, Err: fmt.Errorf("allow_other: %w", ErrNotAllowed),
			Hint: "Put the line user_allow_other into " + fuseConf + ", or mount as root"}
	}
	return nil
}

// confAllowsOther reads fusermount3's configuration.
func confAllowsOther(file string) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// mountError explains what go-fuse says of a mount that failed.
func mountError(path string, err error) error {
	typed := &Error{Op: "mount", Path: path, Err: err}
	switch {
	case os.Geteuid() != 0:
		// It writes to stderr itself, and go-fuse's words end in a newline.
		typed.Err = fmt.Errorf("%w: %s", ErrNotAllowed, strings.TrimSpace(err.Error()))
		typed.Hint = "fusermount3 has printed the reason"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		typed.Err = fmt.Errorf("%w: %w", ErrNotAllowed, err)
		typed.Hint = "A container needs CAP_SYS_ADMIN and " + fuseDevice + " to mount"
	}
	return typed
}
