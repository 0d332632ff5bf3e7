//go:build noceph || !cgo

package ceph_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
)

// TestStub: without Ceph in the binary every way in says so, and the message
// names the binary that has it.
func TestStub(t *testing.T) {
	_, err := ceph.Connect(t.Context(), ceph.Config{Conf: "/etc/ceph/ceph.conf"})
	if !errors.Is(err, ceph.ErrNotBuilt) {
		t.Fatalf("Connect: %v, want ErrNotBuilt", err)
	}
	for _, want := range []string{"/etc/ceph/ceph.conf", "built without Ceph", "make build"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	_, err = ceph.OpenTarget(t.Context(), ceph.Config{}, target.Layout{}, slog.New(slog.DiscardHandler))
	if typed := (*target.Error)(nil); !errors.As(err, &typed) || !errors.Is(err, ceph.ErrNotBuilt) {
		t.Errorf("OpenTarget: %v, want a *target.Error of ErrNotBuilt", err)
	}
	if _, err := ceph.Version(); !errors.Is(err, ceph.ErrNotBuilt) {
		t.Errorf("Version: %v, want ErrNotBuilt", err)
	}
}
