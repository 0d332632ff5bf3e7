//go:build cgo && !noceph

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rbdbackupfs/tests/cluster"
)

// A real cluster gets all snapshots of a backup, and gives them back by rbd.
func TestRestoreToCeph(t *testing.T) {
	c := cluster.Start(t)
	index, sums := t.TempDir(), recordedSums(t)
	to := "ceph:rbd/restored"
	o := runReal(t, "restore", "--all-snapshots", "--index", index, conformance+"/repo", "container", to+"?conf="+c.Conf)
	if o.code != exitOK || !strings.HasPrefix(o.stdout, "restored container@s6 to "+to+": 2.0 MiB, ") {
		t.Fatalf("%+v", o)
	}
	image := "rbd/restored"
	for _, snapshot := range []string{"s1", "s3", "s6"} {
		file := filepath.Join(t.TempDir(), snapshot)
		c.Rbd("export", image+"@"+snapshot, file)
		if data, err := os.ReadFile(file); err != nil || sum(data) != sums["container@"+snapshot] {
			t.Errorf("%s differs, %v", snapshot, err)
		}
	}
	if meta := c.Rbd("image-meta", "list", image); !strings.Contains(meta, "billing") {
		t.Errorf("image-meta is %s", meta)
	}
	// A second time there is something in the way.
	o = runReal(t, "restore", "--index", index, conformance+"/repo", "container", to+"?conf="+c.Conf)
	if o.code != exitError || !strings.Contains(o.stderr, to+" exists already; choose another name") {
		t.Errorf("%+v", o)
	}
	o = runReal(t, "jobs", "--index", index, conformance+"/repo")
	if o.code != exitOK || !strings.Contains(o.stdout, image+" ") {
		t.Errorf("%+v", o)
	}
}
