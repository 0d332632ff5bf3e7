package ceph

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of this package. Compare with errors.Is. What librados said is in the
// chain as well: errors.Is(err, syscall.ENOENT) works.
var (
	// ErrNotBuilt: this binary has no Ceph in it.
	ErrNotBuilt = errors.New("this binary was built without Ceph")
	// ErrConfig: the configuration can't be read, or lacks something.
	ErrConfig = errors.New("bad Ceph configuration")
	// ErrAuth: the cluster refused the user, or the user's key is missing.
	ErrAuth = errors.New("not allowed by Ceph")
	// ErrUnreachable: no monitor answered in time.
	ErrUnreachable = errors.New("cluster not reachable")
	// ErrClosed: the connection was closed.
	ErrClosed = errors.New("connection closed")
)

// An Error tells what was tried with which cluster and how to go on.
type Error struct {
	// Op is what was tried: "connect", "read the configuration".
	Op string
	// Conf is the configuration file as the user named it; empty = the default.
	Conf string
	// Hint is the cure, in one line; may be empty.
	Hint string
	// Err is one of this package's sentinels, or wraps one.
	Err error
}

// Error gives everything in one line, the hint last.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("ceph: " + e.Op)
	if e.Conf != "" {
		b.WriteString(" (" + e.Conf + ")")
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		b.WriteString(". " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// DefaultTimeout bounds Connect when neither Config.Timeout nor the context does.
// librados' own bound is five minutes, and it tries ten times.
const DefaultTimeout = 30 * time.Second

// Config says which cluster to connect to, and as whom. The zero Config is what
// the rbd command does without options: $CEPH_CONF, /etc/ceph/ceph.conf or
// ~/.ceph/ceph.conf, and client.admin.
type Config struct {
	// Conf is the path of a ceph.conf; empty = the default places.
	Conf string
	// User is "admin" or "client.admin"; empty = client.admin.
	User string
	// Cluster is the name in the default places of configuration and keyrings;
	// empty = "ceph".
	Cluster string
	// Options are set last, over the file and $CEPH_ARGS, by their names in
	// ceph.conf ("keyring", "mon_host").
	Options map[string]string
	// Timeout bounds Connect, besides its context; 0 = DefaultTimeout.
	Timeout time.Duration
}
