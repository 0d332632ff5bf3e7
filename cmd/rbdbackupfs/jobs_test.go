package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/restore"
)

const goldenJobs = `ID                IMAGE                KIND             STATE      FROM   TO           RECEIVED            DATA     STARTED           TOOK
0000000000000001  rbd/vm1              diff             done       -      monday       1.0 GiB             1.0 GiB  2026-11-02 03:00  1m2.5s
0000000000000002  rbd/ns/vm2           raw              running    -      -            512 B               0 B      2026-11-02 03:05  5m0s
0000000000000003  rbd/vm1              diff             failed     "a b"    "\x1b[31mx"  3.0 MiB             2.0 MiB  2026-11-02 03:07  45ms
0000000000000004  "file:/srv/a b.img"  snapshot         broken     -      -            2.0 GiB of 2.0 GiB  2.0 GiB  2026-11-02 03:08  -
0000000000000005  rbd/vm5              -                undoing    -      -            0 B                 0 B      2026-11-02 03:09  1m0s
0000000000000003 rbd/vm1: first\tline; second
0000000000000004 "file:/srv/a b.img": the process that restored it was killed
`

func TestJobsTable(t *testing.T) {
	start := time.Date(2026, time.November, 2, 3, 0, 0, 0, time.Local)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	a := &app{now: func() time.Time { return at(10) }}
	reports := []restore.Report{
		{ID: "0000000000000001", Target: "ceph:", Image: "rbd/vm1", Kind: restore.KindDiff, State: restore.StateDone, To: "monday",
			Received: 1 << 30, Data: 1 << 30, Started: start, Ended: start.Add(62500 * time.Millisecond), Error: "old"},
		{ID: "0000000000000002", Target: "ceph:", Image: "rbd/ns/vm2", Kind: restore.KindRaw, State: restore.StateRunning, Received: 512, Started: at(5)},
		{ID: "0000000000000003", Target: "ceph:", Image: "rbd/vm1", Kind: restore.KindDiff, State: restore.StateFailed, From: "a b", To: "\x1b[31mx",
			Received: 3 << 20, Data: 2 << 20, Started: at(7), Ended: at(7).Add(45 * time.Millisecond), Error: "first\tline\nsecond"},
		{ID: "0000000000000004", Target: "path:/srv/a b.img", Image: "file/image", Kind: restore.KindSnapshot, State: restore.StateBroken,
			Received: 3 << 30, Total: 2 << 30, Data: 2 << 30, Started: at(8), Error: "the process that restored it was killed"},
		{ID: "0000000000000005", Target: "ceph:", Image: "rbd/vm5", State: restore.StateUndoing, Started: at(9)},
	}
	var out strings.Builder
	if err := a.showJobs(&out, reports, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(squeeze(goldenJobs), squeeze(out.String())); diff != "" {
		t.Error(diff)
	}
	count := countJobs("ceph:", reports)
	if diff := cmp.Diff(&importReport{Target: "ceph:", Running: 2, Done: 1, Failed: 1, Broken: 1}, count); diff != "" {
		t.Error(diff)
	}
}

// squeeze makes runs of spaces one: how wide columns are is the table's affair.
func squeeze(s string) string {
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}

// interrupt writes what a killed restore leaves: its journal and its file.
func interrupt(t *testing.T, index, dir, id, image string, complete bool) {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"report": restore.Report{ID: id, Target: "file:" + dir, Image: "rbd/" + image, Kind: restore.KindRaw, State: restore.StateRunning, Started: time.Now()},
		"job":    target.Job{ID: id, Image: target.Name{Pool: "rbd", Image: image}, Complete: complete},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{
		filepath.Join(index, "imports", id+".journal"): append(text, '\n'),
		filepath.Join(dir, "rbd", ".rbdbackupfs-"+id):  []byte("bytes of " + image),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecover(t *testing.T) {
	repo, index, first, second := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	jobs := func(flags ...string) outcome {
		return runReal(t, append(append([]string{"jobs", "--index", index}, flags...), repo)...)
	}
	if o := jobs(); o.code != exitOK || o.stdout != "nothing was restored yet\n" {
		t.Errorf("%+v", o)
	}
	if o := jobs("--recover"); o.code != exitOK || o.stdout != "nothing is to be recovered\n" {
		t.Errorf("%+v", o)
	}
	interrupt(t, index, first, "00000000000000aa", "cut", false)
	interrupt(t, index, first, "00000000000000bb", "whole", true)
	interrupt(t, index, second, "00000000000000cc", "other", false)
	if o := jobs(); o.code != exitDamaged || strings.Count(o.stdout, " broken ") != 3 || strings.Count(o.stdout, "was killed\n") != 3 {
		t.Errorf("%+v", o)
	}
	o := jobs("--recover")
	for _, line := range []string{
		"00000000000000aa rbd/cut: undone\n", "00000000000000bb rbd/whole: finished; it was complete\n", "00000000000000cc rbd/other: undone\n",
	} {
		if !strings.Contains(o.stdout, line) {
			t.Errorf("no %q in %q", line, o.stdout)
		}
	}
	if o.code != exitOK || strings.Count(o.stdout, "\n") != 3 {
		t.Errorf("%+v", o)
	}
	if data, err := os.ReadFile(first + "/rbd/whole.img"); string(data) != "bytes of whole" {
		t.Errorf("the complete one is %q, %v", data, err)
	}
	left, err := filepath.Glob(first + "/rbd/.rbdbackupfs-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
	if o := jobs(); o.code != exitOK || strings.Contains(o.stdout, "broken") {
		t.Errorf("%+v", o)
	}
	o = jobs("--json")
	var reports []restore.Report
	if err := json.Unmarshal([]byte(o.stdout), &reports); err != nil || len(reports) != 3 {
		t.Errorf("%v in %+v", err, o)
	}
}

func TestRecoverOfATargetThatCannotBeOpened(t *testing.T) {
	repo, index, dir := t.TempDir(), t.TempDir(), t.TempDir()
	interrupt(t, index, dir, "00000000000000aa", "cut", false)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o := runReal(t, "jobs", "--recover", "--index", index, repo)
	if o.code != exitError || !strings.Contains(o.stderr, "1 restore to file:"+dir+" can't be ended: ") {
		t.Errorf("%+v", o)
	}
	if o := runReal(t, "jobs", "--watch", "--recover", repo); o.code != exitUsage {
		t.Errorf("%+v", o)
	}
}

// A mount that has the index is asked, and recovers by itself.
func TestJobsOfARunningMount(t *testing.T) {
	f, dir := importing(t)
	index := t.TempDir()
	interrupt(t, index, dir, "00000000000000aa", "cut", false)
	ended, ready, stop := mounting(t, f, time.Hour, "--index", index, "--import", "file:"+dir)
	ready()
	f.mu.Lock()
	tree := f.tree
	f.mu.Unlock()
	// Start waits until what was interrupted is undone.
	job, err := tree.Importer.Start(t.Context(), target.Name{Pool: "rbd", Image: "cut"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.WriteAt(t.Context(), make([]byte, 5000), 0); err != nil {
		t.Fatal(err)
	}
	o := <-f.start(t.Context(), 0, "jobs", "--index", index, f.root)
	if o.code != exitOK || !strings.Contains(o.stdout, " failed ") || !strings.Contains(o.stdout, " running ") {
		t.Errorf("%+v", o)
	}
	job.Release()
	stop()
	<-ended
}
