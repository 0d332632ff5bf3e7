//go:build noceph || !cgo

package ceph

import (
	"context"
	"log/slog"
	"syscall"

	"rbdbackupfs/internal/target"
)

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

// A Target is a cluster to restore to; this binary can't open one.
type Target struct{ target.Target }

// OpenTarget says ErrNotBuilt, and EINVAL where defaults would be refused anyway.
func OpenTarget(_ context.Context, cfg Config, defaults target.Layout, _ *slog.Logger) (*Target, error) {
	if _, err := checkLayout(withDefaults(defaults, target.Layout{})); err != nil {
		return nil, err
	}
	_, err := Connect(context.Background(), cfg)
	return nil, &target.Error{Op: "open", Name: "ceph:", Errno: syscall.ENOSYS, Err: err}
}
