//go:build cgo && !noceph

package ceph_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/ceph"
	"rbdbackupfs/tests/cluster"
)

func connect(t *testing.T, cfg ceph.Config) *ceph.Conn {
	t.Helper()
	conn, err := ceph.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// TestConnect: a live connection tells the id that the cluster was made with, and
// the version of its daemons, whichever way the user and the file are named.
func TestConnect(t *testing.T) {
	c := cluster.Start(t)
	conf, err := os.ReadFile(c.Conf)
	if err != nil {
		t.Fatal(err)
	}
	fsid := regexp.MustCompile(`(?m)^fsid = (\S+)$`).FindSubmatch(conf)
	if fsid == nil {
		t.Fatalf("no fsid in %s", c.Conf)
	}
	configs := map[string]ceph.Config{
		"default user":     {Conf: c.Conf},
		"user":             {Conf: c.Conf, User: "admin"},
		"user with type":   {Conf: c.Conf, User: "client.admin", Cluster: "ceph"},
		"options override": {Conf: c.Conf, Options: map[string]string{"rados_mon_op_timeout": "30"}},
	}
	for name, cfg := range configs {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, cfg)
			if got := conn.FSID(); got != string(fsid[1]) {
				t.Errorf("FSID() = %q, want %q", got, fsid[1])
			}
			version, err := conn.ClusterVersion(t.Context())
			if err != nil || !strings.HasPrefix(version, "ceph version ") {
				t.Errorf("ClusterVersion() = %q, %v", version, err)
			}
		})
	}
}

// TestConnectWithDefaultConf: without a path the file comes from $CEPH_CONF, as it
// does for the rbd command.
func TestConnectWithDefaultConf(t *testing.T) {
	c := cluster.Start(t)
	t.Setenv("CEPH_CONF", c.Conf)
	if connect(t, ceph.Config{}).FSID() == "" {
		t.Error("no FSID")
	}
}

func TestConnectRefusals(t *testing.T) {
	c := cluster.Start(t)
	dir := t.TempDir()
	wrongKey := filepath.Join(dir, "keyring")
	key := "[client.admin]\nkey = AQBFkVZlAAAAABAAWl4dcbNb5qOqTnVHmyVLVA==\n"
	if err := os.WriteFile(wrongKey, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		cfg   ceph.Config
		kind  error
		errno syscall.Errno
		hint  string
	}{
		{
			"no such file", ceph.Config{Conf: filepath.Join(dir, "absent.conf")},
			ceph.ErrConfig, syscall.ENOENT, "The path is that of a ceph.conf",
		},
		{
			"unknown option", ceph.Config{Conf: c.Conf, Options: map[string]string{"no such": "1"}},
			ceph.ErrConfig, syscall.ENOENT, "Names and values are those of ceph.conf",
		},
		{
			"unknown user", ceph.Config{Conf: c.Conf, User: "nobody"},
			ceph.ErrAuth, syscall.EACCES, "holds a key for client.nobody",
		},
		{
			"no keyring", ceph.Config{Conf: c.Conf, Options: map[string]string{"keyring": filepath.Join(dir, "absent")}},
			ceph.ErrAuth, syscall.ENOENT, "holds a key for client.admin",
		},
		{
			"wrong key", ceph.Config{Conf: c.Conf, Options: map[string]string{"keyring": wrongKey}},
			ceph.ErrAuth, syscall.EACCES, "holds a key for client.admin",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := ceph.Connect(t.Context(), tt.cfg)
			if err == nil {
				_ = conn.Close()
				t.Fatal("connected")
			}
			var typed *ceph.Error
			if !errors.As(err, &typed) || typed.Conf != tt.cfg.Conf || !strings.Contains(typed.Hint, tt.hint) {
				t.Errorf("%#v, want an *Error for %s with the hint %q", err, tt.cfg.Conf, tt.hint)
			}
			if !errors.Is(err, tt.kind) || !errors.Is(err, tt.errno) {
				t.Errorf("%v, want %v and %v", err, tt.kind, tt.errno)
			}
		})
	}
}

// silentMonitor is the address of a listener that accepts and never answers, as
// a hung monitor does.
func silentMonitor(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "v2:" + listener.Addr().String()
}

// bareConf is a configuration that needs no cluster.
func bareConf(t *testing.T, monitor string) string {
	t.Helper()
	dir := t.TempDir()
	keyring := filepath.Join(dir, "keyring")
	conf := filepath.Join(dir, "ceph.conf")
	key := "[client.admin]\nkey = AQBFkVZlAAAAABAAWl4dcbNb5qOqTnVHmyVLVA==\n"
	text := "[global]\nmon host = " + monitor + "\nkeyring = " + keyring + "\n"
	if err := errors.Join(os.WriteFile(keyring, []byte(key), 0o600), os.WriteFile(conf, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return conf
}

// TestConnectIsBounded: a monitor that doesn't answer costs the timeout, no more.
func TestConnectIsBounded(t *testing.T) {
	cfg := ceph.Config{Conf: bareConf(t, silentMonitor(t)), Timeout: 200 * time.Millisecond}
	_, err := ceph.Connect(t.Context(), cfg)
	if !errors.Is(err, ceph.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want ErrUnreachable by the deadline", err)
	}
}

// TestConnectEndsWithItsContext: a user's ^C ends the wait at once, and is not
// taken for a cluster that is down.
func TestConnectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cfg := ceph.Config{Conf: bareConf(t, silentMonitor(t)), Timeout: 2 * time.Second}
	done := make(chan error, 1)
	go func() {
		_, err := ceph.Connect(ctx, cfg)
		done <- err
	}()
	cancel()
	err := <-done
	if !errors.Is(err, context.Canceled) || errors.Is(err, ceph.ErrUnreachable) {
		t.Errorf("%v, want context.Canceled alone", err)
	}
}

func TestClose(t *testing.T) {
	c := cluster.Start(t)
	conn, err := ceph.Connect(t.Context(), ceph.Config{Conf: c.Conf})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := conn.ClusterVersion(t.Context()); !errors.Is(err, ceph.ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// TestCallsAndClose: a call that is still with the cluster keeps its
// connection until it returns, and Close doesn't wait for it.
func TestCallsAndClose(t *testing.T) {
	c := cluster.Start(t)
	conn, err := ceph.Connect(t.Context(), ceph.Config{Conf: c.Conf})
	if err != nil {
		t.Fatal(err)
	}
	const callers = 8
	done := make(chan error, callers)
	for range callers {
		go func() {
			_, err := conn.ClusterVersion(t.Context())
			done <- err
		}()
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	for range callers {
		if err := <-done; err != nil && !errors.Is(err, ceph.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestVersion(t *testing.T) {
	version, err := ceph.Version()
	if err != nil || !regexp.MustCompile(`^librbd \d+\.\d+\.\d+, librados \d+\.\d+\.\d+$`).MatchString(version) {
		t.Errorf("Version() = %q, %v", version, err)
	}
}
