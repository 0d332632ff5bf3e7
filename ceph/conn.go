//go:build cgo && !noceph

package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
)

// A Conn is a connection to a cluster. Its methods may be called from several
// goroutines.
type Conn struct {
	fsid string
	conf string

	rados *rados.Conn

	mu      sync.Mutex
	closed  bool
	running int // calls into rados; the last one after Close shuts it down
}

// Version returns the versions of the Ceph libraries that this process runs with,
// such as "librbd 1.16.0, librados 3.0.0". Since Ceph 16 (pacific) librbd's middle
// number is Ceph's major version.
func Version() (string, error) {
	dot := func(major, minor, patch int) string { return fmt.Sprintf("%d.%d.%d", major, minor, patch) }
	return fmt.Sprintf("librbd %s, librados %s", dot(rbd.Version()), dot(rados.Version())), nil
}

// entity is the user as librados wants it, with its type.
func (c Config) entity() string {
	switch {
	case c.User == "":
		return "client.admin"
	case strings.Contains(c.User, "."):
		return c.User
	}
	return "client." + c.User
}

func (c Config) cluster() string {
	if c.Cluster == "" {
		return "ceph"
	}
	return c.Cluster
}

func (c Config) timeout() time.Duration {
	if c.Timeout <= 0 {
		return DefaultTimeout
	}
	return c.Timeout
}

// Connect connects to the cluster of cfg and returns once a monitor has accepted
// the user. It returns at the latest when ctx ends or cfg's timeout has passed.
// The caller closes the Conn. Errors are ErrConfig, ErrAuth, ErrUnreachable or the
// context's, in an *Error.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout())
	defer cancel()
	handle, err := configure(cfg)
	if err != nil {
		return nil, err
	}
	if err := boundMount(ctx, handle); err != nil {
		return nil, &Error{Op: "connect", Conf: cfg.Conf, Err: err}
	}

	connected := make(chan error, 1)
	go func() { connected <- handle.Connect() }()
	select {
	case err = <-connected:
	case <-ctx.Done():
		// librados goes on trying; whatever it gets to is thrown away.
		go func() {
			if <-connected == nil {
				handle.Shutdown()
			}
		}()
		return nil, connectError(cfg, ctx.Err())
	}
	if err != nil {
		return nil, connectError(cfg, err)
	}
	fsid, err := handle.GetFSID()
	if err != nil {
		handle.Shutdown()
		return nil, connectError(cfg, err)
	}
	return &Conn{fsid: fsid, conf: cfg.Conf, rados: handle}, nil
}

// configure makes a handle with everything in cfg set, without talking to anyone.
func configure(cfg Config) (*rados.Conn, error) {
	fail := func(what string, err error, hint string) error {
		return &Error{Op: what, Conf: cfg.Conf, Hint: hint, Err: classify(ErrConfig, err)}
	}
	handle, err := rados.NewConnWithClusterAndUser(cfg.cluster(), cfg.entity())
	if err != nil {
		return nil, fail("prepare "+cfg.entity(), err, "")
	}
	// librados writes its complaints to standard error, where they would break
	// progress output and be lost by a daemon. What they say is in our errors.
	for _, option := range []string{"log_to_stderr", "err_to_stderr"} {
		if err := handle.SetConfigOption(option, "false"); err != nil {
			return nil, fail("set "+option, err, "")
		}
	}
	if cfg.Conf == "" {
		err = handle.ReadDefaultConfigFile()
	} else {
		err = handle.ReadConfigFile(cfg.Conf)
	}
	if err != nil {
		return nil, fail("read the configuration", err, confHint(cfg))
	}
	if err := handle.ParseDefaultConfigEnv(); err != nil {
		return nil, fail("read $CEPH_ARGS", err, "")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Options)) {
		if err := handle.SetConfigOption(name, cfg.Options[name]); err != nil {
			return nil, fail("set "+name, err, "Names and values are those of ceph.conf")
		}
	}
	return handle, nil
}

// boundMount tells librados to give up when ctx will have ended anyhow, so that
// nothing it started outlives the caller's interest for long. It counts in
// seconds.
func boundMount(ctx context.Context, handle *rados.Conn) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	seconds := max(1, int((time.Until(deadline)+time.Second-1)/time.Second))
	return classify(ErrConfig, handle.SetConfigOption("client_mount_timeout", strconv.Itoa(seconds)))
}

// FSID returns the cluster's id, a UUID, as its monitors told it.
func (c *Conn) FSID() string { return c.fsid }

// ClusterVersion asks the monitors for their version, such as "ceph version
// 16.2.15 (618f…) pacific (stable)". Errors are ErrClosed, ErrUnreachable or the
// context's, in an *Error.
func (c *Conn) ClusterVersion(ctx context.Context) (string, error) {
	const op = "ask for the cluster's version"
	reply, err := c.monCommand(ctx, `{"prefix":"version","format":"json"}`)
	if err != nil {
		return "", &Error{Op: op, Conf: c.conf, Err: err}
	}
	var answer struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return "", &Error{Op: op, Conf: c.conf, Err: fmt.Errorf("%w: %w", ErrUnreachable, err)}
	}
	return answer.Version, nil
}

// monCommand sends a command to the monitors. When ctx ends first the command is
// left behind.
func (c *Conn) monCommand(ctx context.Context, command string) ([]byte, error) {
	return ask(ctx, c, func() ([]byte, error) {
		reply, _, err := c.rados.MonCommand([]byte(command))
		return reply, classify(ErrUnreachable, err)
	}, nil)
}

// ask runs a call that needs the connection and may wait for the cluster. When ctx
// ends first the call is left behind, and drop is given what it still came to.
func ask[T any](ctx context.Context, c *Conn, call func() (T, error), drop func(T)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if !c.begin() {
		return none, ErrClosed
	}
	return await(ctx, func() (T, error) {
		defer c.end()
		return call()
	}, drop)
}

// await waits for a call, but not longer than ctx: librados has no cancellation.
func await[T any](ctx context.Context, call func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result)
	go func() {
		value, err := call()
		select {
		case done <- result{value, err}:
		case <-ctx.Done():
			if err == nil && drop != nil {
				drop(value)
			}
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// begin registers a call into rados; false once the connection is closed.
func (c *Conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running++
	return true
}

// end takes a call out again.
func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.closed && c.running == 0 {
		c.rados.Shutdown()
	}
}

// Close ends the connection. It does not wait for a call that was left behind at
// a cluster that no longer answers: that call ends the connection when it returns.
// Further calls say ErrClosed; a second Close does nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.running == 0 {
		c.rados.Shutdown()
	}
	return nil
}

// connectError says why Connect did not come through, and what to do.
func connectError(cfg Config, err error) error {
	e := &Error{Op: "connect as " + cfg.entity(), Conf: cfg.Conf}
	errno := errnoOf(err)
	switch {
	case errors.Is(err, context.Canceled):
		e.Err = err
	case errors.Is(err, context.DeadlineExceeded), errno == syscall.ETIMEDOUT:
		e.Err = classify(ErrUnreachable, err)
		e.Hint = "No monitor answered: check mon_host, the network and `ceph -s`"
	case errno == syscall.ENOENT && cfg.Conf == "":
		// The default configuration may be absent, which shows only here.
		e.Err = classify(ErrConfig, err)
		e.Hint = confHint(cfg)
	case errno == syscall.EACCES, errno == syscall.EPERM, errno == syscall.ENOENT, errno == syscall.ENOTSUP:
		e.Err = classify(ErrAuth, err)
		e.Hint = "Check that the keyring named there holds a key for " + cfg.entity() + " that the cluster knows"
	case errno == syscall.EINVAL:
		e.Err = classify(ErrConfig, err)
		e.Hint = "Check mon_host and the keyring in the configuration"
	default:
		e.Err = classify(ErrUnreachable, err)
	}
	return e
}

func confHint(cfg Config) string {
	if cfg.Conf == "" {
		return "Neither $CEPH_CONF nor /etc/ceph/" + cfg.cluster() + ".conf names a cluster: pass the path of its ceph.conf"
	}
	return "The path is that of a ceph.conf which names mon_host and a keyring"
}

// classify wraps a librados error in one of this package's kinds, together with
// the errno, which is all that librados' own error says. nil stays nil.
func classify(kind, err error) error {
	if err == nil {
		return nil
	}
	if errno := errnoOf(err); errno != 0 {
		err = errno
	}
	return fmt.Errorf("%w: %w", kind, err)
}
