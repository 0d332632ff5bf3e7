package ceph_test

import (
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
)

// TestCheckFeatures needs no cluster, and no Ceph in the binary.
func TestCheckFeatures(t *testing.T) {
	for names, reason := range map[string]string{
		"": "", "layering": "", "layering,exclusive-lock,object-map,fast-diff,deep-flatten": "",
		"object-map,exclusive-lock": "", "journaling,exclusive-lock": "",
		"object-map": "object-map needs exclusive-lock", "exclusive-lock,fast-diff": "fast-diff needs object-map",
		"journaling": "journaling needs exclusive-lock", "Layering": `no feature "Layering"`,
		"data-pool": `no feature "data-pool"`,
	} {
		err := ceph.CheckFeatures(strings.FieldsFunc(names, func(r rune) bool { return r == ',' }))
		if reason == "" && err != nil {
			t.Errorf("%q: %v", names, err)
		}
		if reason != "" && (!target.HasErrno(err, syscall.EINVAL) || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%q: %v, want EINVAL: %s", names, err, reason)
		}
	}
}
