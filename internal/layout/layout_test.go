package layout

import (
	"testing"
)

// place puts files into their group, and returns where the first one belongs.
func place(t *testing.T, r *Rules, f File, others ...File) Place {
	t.Helper()
	g, known := &Group{}, r.Know(f)
	g.Add(known)
	for _, o := range others {
		if other := r.Know(o); other.Group() == known.Group() {
			g.Add(other)
		}
	}
	return r.Place(known, g)
}

func rules(t *testing.T, c Config) *Rules {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func diff(path, from, to string) File {
	f := File{Path: path, Read: true, To: []string{to}}
	if from != "" {
		f.From = []string{from}
	}
	return f
}

func raw(path string) File { return File{Path: path, Read: true, Bare: true} }

func TestAuto(t *testing.T) {
	r := rules(t, Config{Root: "nas"})
	tests := []struct {
		f        File
		others   []File
		image    string
		snapshot string
	}{
		// A folder for each image.
		{f: diff("rbd/vm1/s0..s1.diff", "s0", "s1"), image: "rbd/vm1"},
		{f: diff("rbd/vm1/full.diff", "", "s1"), image: "rbd/vm1"},
		{f: diff("rbd/vm1/vm1-s1.diff.zst", "", "s1"), image: "rbd/vm1"},
		{f: diff("rbd/vm1/rbd-vm1@s1", "", "s1"), image: "rbd/vm1"},
		{f: diff("vm1/001.diff", "", "s1"), image: "vm1"},
		{f: diff("vm1/a.diff", "", "s1"), image: "vm1"},
		{f: diff("vm1/backup-2024-05-01.diff", "", "s1"), image: "vm1"},
		{f: raw("vm1/s0.raw"), others: []File{diff("vm1/s1.diff", "s0", "s1")}, image: "vm1"},
		{f: raw("vm1/anything.raw"), image: "vm1"},
		{f: raw("vm1/full-0101.img"), others: []File{diff("vm1/0102.diff", "0101", "0102")}, image: "vm1"},
		// All images in one folder.
		{f: diff("d0_0101_0102.diff", "0101", "0102"), image: "d0"},
		{f: diff("d1_0101_0102.diff", "0101", "0102"), image: "d1"},
		{f: diff("ceph/vm-100-disk-0@snap-20240501.diff", "", "snap-20240501"), image: "ceph/vm-100-disk-0"},
		{f: raw("ceph/vm-100-disk-0@snap-20240501.raw"), image: "ceph/vm-100-disk-0", snapshot: "snap-20240501"},
		{f: raw("db-vol-2026-03-29.raw"), image: "db-vol"},
		{f: raw("db-vol-2026-03-29.raw"), others: []File{diff("db-vol-2026-03-30.diff", "2026-03-29", "2026-03-30")}, image: "db-vol"},
		{f: diff("db-vol-2026-03-30.diff", "2026-03-29", "2026-03-30"), image: "db-vol"},
		{f: diff("vm-100-disk-0.inc1", "s1", "s2"), image: "vm-100-disk-0"},
		{f: raw("vm-100-disk-0.full"), others: []File{diff("vm-100-disk-0.inc1", "s1", "s2")}, image: "vm-100-disk-0"},
		{f: raw("web.full"), others: []File{diff("web.0101.0102.diff", "0101", "0102")}, image: "web"},
		{f: diff("config@UTC20161130T170929.diff_from_UTC20161130T170848", "UTC20161130T170848", "UTC20161130T170929"), image: "config"},
		{f: diff("vm1_0_1.diff", "0", "1"), image: "vm1"},
		// A folder for each day.
		{f: diff("2024-05-01/vm-100-disk-0.diff", "2024-04-30", "2024-05-01"), image: "vm-100-disk-0"},
		{f: diff("2024/05/01/vm-100-disk-0.diff.gz", "2024-04-30", "2024-05-01"), image: "vm-100-disk-0"},
		{f: raw("2024-05-01/vm-100-disk-0.raw"), image: "vm-100-disk-0", snapshot: "2024-05-01"},
		{f: raw("pvc/2024/05/01/full.raw"), image: "pvc", snapshot: "2024-05-01"},
		{f: raw("pvc/backup-20240501/full/disk.raw"), image: "pvc/disk", snapshot: "backup-20240501"},
		{f: diff("pvc-1b2c/20240501/inc.diff", "20240430", "20240501"), image: "pvc-1b2c"},
		{f: diff("pvc-1b2c/backup-20240501/full.diff", "", "20240501"), image: "pvc-1b2c"},
		{f: diff("vm1/s17/inc.diff", "s16", "s17"), image: "vm1/s17"},
		{f: diff("vm1/snap_17/inc.diff", "snap_16", "snap_17"), image: "vm1"},
		{f: diff("rbd/prod/full.diff", "", "prod"), image: "rbd/prod"},
		{f: diff("vm1/dummy-2024-05-01.diff", "", "dummy"), image: "vm1"},
		{f: raw("2024-05-01@vm1.raw"), image: "vm1"},
		{f: raw("s0@vm1.raw"), others: []File{diff("s1@vm1.diff", "s0", "s1")}, image: "vm1"},
		{f: raw("vm1/2024-05-01.qcow2.raw"), image: "vm1"},
		{f: diff("nas/s1.diff", "", "s1"), image: "nas/nas"},
		{f: diff("nas/nas/s1.diff", "", "s1"), image: "nas/nas/nas"},
		{f: diff("nas-s1.diff", "", "s1"), image: "nas/nas"},
		{f: diff("nas2/s1.diff", "", "s1"), image: "nas2"},
		{f: diff("s1.diff", "", "s1"), image: "nas"},
		{f: diff("s2/vm-100-disk-0.diff", "s1", "s2"), image: "vm-100-disk-0"},
		{f: diff("rbd/s2/vm-100-disk-0.diff.gz", "s1", "s2"), image: "rbd/vm-100-disk-0"},
		{f: diff("vm1/s2/vm1.diff", "s1", "s2"), image: "vm1"},
		{f: diff("prod/disk-0.diff", "", "prod"), image: "prod/disk-0"},
		{f: diff("vm1/17/inc.diff", "16", "17"), image: "vm1/17"}, // it may be anything
		{f: diff("vm1/snap17/inc.diff", "snap16", "snap17"), image: "vm1"},
		{f: raw("full/vm1.raw"), image: "vm1"},
		{f: diff("increments/s0..s1.diff", "s0", "s1"), image: "increments"},
		{f: diff("incremental/vm1-0102.diff", "0101", "0102"), image: "vm1"},
		// What may be an image's name stays.
		{f: diff("vm-20230101_s1.diff", "", "s1"), image: "vm-20230101"},
		{f: diff("vm-20230101.diff", "", "s1"), image: "vm"},
		{f: diff("vm-20230101_snap1.diff", "", "snap1"), image: "vm-20230101"},
		{f: diff("vm-20230101/snap1.diff", "", "snap1"), image: "vm-20230101"},
		{f: diff("web-prod-prod.diff", "", "prod"), image: "web-prod"},
		{f: diff("vm-a.diff", "", "a"), image: "vm-a"},
		{f: diff("csi-vol-ab20240501cd-4f.diff", "", "s1"), image: "csi-vol-ab20240501cd-4f"},
		{f: diff("foo.diff", "s0", "s1"), image: "foo"},
		// Not read yet: the folder.
		{f: File{Path: "ceph/vm1-0101.diff"}, image: "ceph"},
		{f: File{Path: "vm1.diff"}, image: "nas"},
		{f: raw("monday.raw"), image: "nas"},
		// By the names that tools give.
		{f: diff("100/daily/20240501020000rbd.vm-100-disk-0.diff", "", "barcdaily20240501020000"), image: "rbd/vm-100-disk-0", snapshot: "barcdaily20240501020000"},
		{f: diff("one/13/a1b2c3/disk.0.1.rbdiff", "one_backup_0", "one_backup_1"), image: "one/13/disk.0"},
		{f: diff("one/123456/disk.0.1.rbdiff", "one_backup_0", "one_backup_1"), image: "one/123456/disk.0"},
		{f: diff("a1b2c3/disk.0.rbd2", "", "one_backup_0"), image: "a1b2c3/disk.0"},
		{f: diff("disk.0.rbd2.gz", "", "one_backup_0"), image: "disk.0"},
		{f: diff("13/disk.0.rbd2", "", "one_backup_0"), image: "13/disk.0"},
	}
	for _, tt := range tests {
		got := place(t, r, tt.f, tt.others...)
		if got.Image != tt.image || got.Snapshot != tt.snapshot {
			t.Errorf("%s: image %q snapshot %q, wanted %q %q", tt.f.Path, got.Image, got.Snapshot, tt.image, tt.snapshot)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	r, err := New(Config{Root: "nas"})
	if err != nil {
		b.Fatal(err)
	}
	f := diff("nas/2024-05-01/vm-100-disk-0@snap-20240501.diff.zst", "snap-20240430", "snap-20240501")
	for b.Loop() {
		g, known := Group{}, r.Know(f)
		g.Add(known)
		r.Place(known, &g)
	}
}
