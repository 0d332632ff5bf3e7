package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/mount"
)

// A writer has a file of import/ open, for as long as a test wants.
type writer struct {
	f    *os.File
	text []byte
	at   int
}

func openWriter(t *testing.T, source, target string) *writer {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &writer{f: f, text: text}
}

// writeTo writes up to a part of the file, in thousandths.
func (w *writer) writeTo(part int) error {
	end := len(w.text) * part / 1000
	n, err := w.f.Write(w.text[w.at:end])
	w.at += n
	return err
}

// finish writes the rest and closes, and returns the first error.
func (w *writer) finish() error {
	err := w.writeTo(1000)
	return errors.Join(err, w.f.Close())
}

// A restoreCase is one kind of restore, and what the target holds before and after.
type restoreCase struct {
	name   string
	before string // export that is restored first
	source string
	was    string // snapshot whose bytes the image has before; empty: no image
	is     string // after
}

func restoreCases() []restoreCase {
	return []restoreCase{
		{name: "raw", source: "s1.raw", is: "s1"},
		{name: "full", source: "s1.diff", is: "s1"},
		{name: "diff", before: "s1.diff", source: "s1..s2.diff", was: "s1", is: "s2"},
		{name: "export", source: "all.rbd2", is: "s3"},
	}
}

// TestKilledDaemon kills the mount at several places of every kind of restore.
// After the next mount the image is what it was, and the same cp succeeds.
func TestKilledDaemon(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t)
	// A killed client's watch ends after this many seconds.
	c.Ceph("config", "set", "osd", "osd_client_watch_timeout", "2")
	s := exports(t, c, 16<<20)
	places := map[string]*place{"file": inFolder(t, t.TempDir(), empty(t)), "ceph": inCeph(t, c, empty(t))}
	for where, p := range places {
		for _, rc := range restoreCases() {
			for _, part := range []int{2, 500, 1000} {
				image := p.name(fmt.Sprintf("%s-%s-%d", where, rc.name, part))
				if rc.before != "" {
					must(t, "cp", s.file(rc.before), p.path(image))
				}
				w := openWriter(t, s.file(rc.source), p.path(image))
				if err := w.writeTo(part); err != nil {
					t.Fatalf("%s: %v", image, err)
				}
				p.m.Kill()
				_ = w.f.Close()
				p.m.Again()
				p.awaitRecovery()
				p.wantsState(s, image, rc.was)
				must(t, "cp", s.file(rc.source), p.path(image))
				p.wantsState(s, image, rc.is)
			}
		}
		p.wantsNothingLeft()
	}
}

// awaitRecovery waits until the mount has ended what the one before left.
func (p *place) awaitRecovery() {
	p.t.Helper()
	await(p.t, func() bool {
		for _, r := range p.reports() {
			if r.State != "done" && r.State != "failed" {
				return false
			}
		}
		return true
	})
}

// await polls until a condition holds that nothing tells of.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	awaitFor(t, time.Minute, holds, func() {})
}

// awaitFor is await with a patience, and something to say when it is over.
func awaitFor(t *testing.T, patience time.Duration, holds func() bool, otherwise func()) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			otherwise()
			t.Fatalf("it didn't come true within %v", patience)
		}
	}
}

// A report is import/.jobs/<id>.json, written down here once more.
type report struct {
	ID       string `json:"id"`
	Image    string `json:"image"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
	To       string `json:"to"`
	Size     int64  `json:"size"`
	Received int64  `json:"received"`
	Data     int64  `json:"data"`
	Error    string `json:"error"`
	Errno    int    `json:"errno"`
}

func (p *place) reports() []report {
	p.t.Helper()
	files, err := filepath.Glob(p.m.Import(".jobs", "*.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var list []report
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			p.t.Fatalf("%s: %v in %s", file, err, text)
		}
		list = append(list, r)
	}
	return list
}

// wantsState compares an image with a snapshot, or with not being there.
func (p *place) wantsState(s *made, image, snapshot string) {
	p.t.Helper()
	if snapshot == "" {
		if p.has(image) {
			p.t.Errorf("%s is there", image)
		}
		return
	}
	p.wantsBytes(image, s.want[snapshot])
}

// TestStoppedOSD: an OSD that hangs for a while, or is killed and started, only
// costs time.
func TestStoppedOSD(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t, cluster.WithDisk)
	s := exports(t, c, 16<<20)
	p := inCeph(t, c, empty(t))
	osd := c.Daemon("osd")
	for how, ends := range map[string][2]func(){
		"pause": {osd.Pause, osd.Continue}, "restart": {osd.KillOSD, osd.StartOSD},
	} {
		for _, rc := range restoreCases() {
			image := p.name(how + rc.name)
			if rc.before != "" {
				must(t, "cp", s.file(rc.before), p.path(image))
			}
			w := openWriter(t, s.file(rc.source), p.path(image))
			if err := w.writeTo(300); err != nil {
				t.Fatal(err)
			}
			ends[0]()
			done := make(chan error, 1)
			go func() { done <- w.finish() }()
			select {
			case err := <-done:
				t.Errorf("%s: it was done without an OSD, %v", image, err)
			case <-time.After(500 * time.Millisecond):
			}
			ends[1]()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", image, err)
			}
			p.wantsState(s, image, rc.is)
		}
	}
	p.wantsNothingLeft()
}

// TestLostCluster: a cluster that doesn't come back is an error, after a bounded
// time, and no more than that time. Once it is back, what was left of the restore
// is undone by the next one.
func TestLostCluster(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t, cluster.WithDisk)
	// What was given up keeps its watch for this many seconds.
	c.Ceph("config", "set", "osd", "osd_client_watch_timeout", "2")
	s := exports(t, c, 16<<20)
	conf := filepath.Join(t.TempDir(), "ceph.conf")
	text, err := os.ReadFile(c.Conf)
	if err == nil {
		// With less than the 10 seconds after which librados asks for a new map of
		// the OSDs, it would never learn that the OSD is back.
		err = os.WriteFile(conf, append(text, "[client]\nrados osd op timeout = 12\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := inCeph(t, &cluster.Cluster{Conf: conf}, empty(t))
	p.c = c
	osd := c.Daemon("osd")
	for _, rc := range restoreCases() {
		image := p.name(rc.name)
		if rc.before != "" {
			must(t, "cp", s.file(rc.before), p.path(image))
		}
		w := openWriter(t, s.file(rc.source), p.path(image))
		if err := w.writeTo(300); err != nil {
			t.Fatal(err)
		}
		osd.KillOSD()
		start := time.Now()
		if err := w.finish(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s without an OSD: %v", rc.name, err)
		}
		// A write to a new object is three operations for librbd: to enter it into the
		// object map, to mark that as invalid, and the data.
		if took := time.Since(start); took > 45*time.Second {
			t.Errorf("%s: the writer was told after %v", rc.name, took)
		}
		if !slices.ContainsFunc(p.reports(), func(r report) bool {
			return r.State == "broken" && strings.Contains(r.Error, "the cluster doesn't answer")
		}) {
			t.Errorf("%s: %+v", rc.name, p.reports())
		}
		osd.StartOSD()
		c.Rbd("ls") // it serves again
		again := result{}
		awaitFor(t, 3*time.Minute, func() bool {
			again = run(t, "cp", s.file(rc.source), p.path(image))
			return again.code == 0
		}, func() { t.Log(again.out, p.reports()) })
		p.wantsState(s, image, rc.is)
	}
	p.awaitRecovery()
	p.wantsNothingLeft()
}

// TestKilledWriterWithoutOSD: a cp whose cluster doesn't answer can be killed.
func TestKilledWriterWithoutOSD(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t)
	s := exports(t, c, 16<<20)
	p := inCeph(t, c, empty(t))
	osd := c.Daemon("osd")
	text, err := os.ReadFile(s.file("s1.raw"))
	if err != nil {
		t.Fatal(err)
	}
	cat, in := startCat(t, p.path(c.Name("vm")))
	if _, err := in.Write(text[:len(text)/4]); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { r := p.reports(); return len(r) > 0 && r[0].Received > 0 })
	osd.Pause()
	defer osd.Continue()
	if _, err := in.Write(text[len(text)/4:]); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cat.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cat.Wait(); err == nil {
		t.Error("cat was not killed")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("cat took %v to die", took)
	}
	osd.Continue()
	p.awaitRecovery()
	p.wantsNothingLeft()
	must(t, "cp", s.file("s1.raw"), p.path(c.Name("vm")))
	p.wantsState(s, c.Name("vm"), "s1")
}

// TestFullPool fills the pool in the middle of each kind of restore: ENOSPC, and
// with room the image is what it was, and the same cp succeeds. What could not be
// undone for want of room is undone when there is some.
func TestFullPool(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t, cluster.WithManager)
	s := exports(t, c, 16<<20)
	p := inCeph(t, c, empty(t))
	quota := func(objects string, full bool) {
		c.Ceph("osd", "pool", "set-quota", "rbd", "max_objects", objects)
		await(t, func() bool { return strings.Contains(c.Ceph("osd", "pool", "ls", "detail"), "full_quota") == full })
	}
	for _, rc := range restoreCases() {
		image := p.name(rc.name)
		if rc.before != "" {
			must(t, "cp", s.file(rc.before), p.path(image))
		}
		w := openWriter(t, s.file(rc.source), p.path(image))
		if err := w.writeTo(300); err != nil {
			t.Fatal(err)
		}
		quota("1", true)
		if err := w.finish(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", rc.name, err)
		}
		refused(t, "No space left", "cp", s.file("all.rbd2"), p.path(p.name("new-"+rc.name)))
		quota("0", false)
		if r := mount.Run(t, "jobs", p.m.Dir, "--recover"); r.Code != 0 {
			t.Errorf("%v", r)
		}
		p.awaitRecovery()
		p.wantsState(s, image, rc.was)
		must(t, "cp", s.file(rc.source), p.path(image))
		p.wantsState(s, image, rc.is)
	}
	p.wantsNothingLeft()
}

// TestFullDisk: the same with a file system that is too small.
func TestFullDisk(t *testing.T) {
	testenv.Need(t, "fuse", "ceph", "root")
	s := exports(t, cluster.Start(t), 16<<20)
	dir := t.TempDir()
	must(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)
	t.Cleanup(func() { must(t, "umount", dir) })
	p := inFolder(t, dir, empty(t))
	for _, rc := range restoreCases() {
		if rc.before == "" {
			refused(t, "No space left", "cp", "--sparse=never", s.file(rc.source), p.path(rc.name))
			p.wantsState(s, rc.name, "")
		}
	}
	p.wantsNothingLeft()
	must(t, "mount", "-o", "remount,size=100m", dir)
	must(t, "cp", s.file("s1.diff"), p.path("diff"))
	used := strings.Fields(must(t, "du", "-sk", dir))[0]
	must(t, "mount", "-o", "remount,size="+used+"k", dir)
	refused(t, "No space left", "cp", s.file("s1..s2.diff"), p.path("diff"))
	p.wantsState(s, "diff", "s1")
	must(t, "mount", "-o", "remount,size=100m", dir)
	must(t, "cp", s.file("s1..s2.diff"), p.path("diff"))
	p.wantsState(s, "diff", "s2")
	p.wantsNothingLeft()
	p.m.Stop()
}
