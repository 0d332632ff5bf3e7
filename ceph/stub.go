//go:build noceph || !cgo

package ceph

import "context"

// A Conn is a connection to a cluster; this binary can't make one.
type Conn struct{}

// Version says ErrNotBuilt.
func Version() (string, error) { return "", ErrNotBuilt }

// Connect says ErrNotBuilt.
func Connect(_ context.Context, cfg Config) (*Conn, error) {
	return nil, &Error{
		Op:   "connect",
		Conf: cfg.Conf,
		Hint: "Use the rbdbackupfs that `make build` makes instead of rbdbackupfs-static",
		Err:  ErrNotBuilt,
	}
}

// FSID is empty.
func (*Conn) FSID() string { return "" }

// ClusterVersion says ErrNotBuilt.
func (*Conn) ClusterVersion(context.Context) (string, error) { return "", ErrNotBuilt }

// Close does nothing.
func (*Conn) Close() error { return nil }
