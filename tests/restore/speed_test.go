package restore

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/mount"
	"rbdbackupfs/tests/scenario"
)

// speedSize is the size of the image that is restored, all of it random data, bytes.
const speedSize = 1 << 30

// BenchmarkRestore restores an image into Ceph, in turn with rbd, and reports how
// many times as fast as rbd each way is: the median over the rounds. Rounds are
// paired, since machines change their speed.
func BenchmarkRestore(b *testing.B) {
	c := cluster.Start(b)
	repo := b.TempDir()
	builder := scenario.NewBuilder(b.Context(), c.Conf, repo, "vm", scenario.Small())
	img := builder.Create("rbd/speed", "", speedSize)
	const piece = 64 << 20
	for off := int64(0); off < speedSize; off += piece {
		img.Fill(off, piece)
	}
	img.Snap("s1")
	img.Full("s1")
	if err := builder.Err(); err != nil {
		b.Fatal(err)
	}
	raw := filepath.Join(b.TempDir(), "raw")
	c.Rbd("export", "--no-progress", "rbd/speed@s1", raw)
	c.Rbd("snap", "rm", "--no-progress", "rbd/speed@s1")
	c.Rbd("rm", "--no-progress", "rbd/speed")
	diff := filepath.Join(repo, "vm", "s1.diff")
	m := mount.Start(b, repo, mount.Options{Flags: []string{"--import", "ceph:?conf=" + c.Conf}})
	into := m.Import("rbd", "fast")
	cp := func(file string) { run1(b, "cp", file, into) }
	ratios := map[string][]float64{}
	for b.Loop() {
		imported := timed(func() { c.Rbd("import", "--no-progress", raw, "rbd/slow") })
		remove(c, "slow")
		c.Rbd("create", "--size", "1M", "rbd/slow")
		applied := timed(func() { c.Rbd("import-diff", "--no-progress", diff, "rbd/slow") })
		remove(c, "slow")
		for name, way := range map[string]func() time.Duration{
			"cp-raw/rbd-import":       func() time.Duration { return timed(func() { cp(raw) }) },
			"cp-diff/rbd-import-diff": func() time.Duration { return timed(func() { cp(diff) }) },
			"restore/rbd-import-diff": func() time.Duration {
				return timed(func() { mount.Run(b, "restore", m.Dir, "vm@s1", "ceph:rbd/fast?conf="+c.Conf) })
			},
		} {
			took := way()
			remove(c, "fast")
			base := applied
			if name == "cp-raw/rbd-import" {
				base = imported
			}
			ratios[name] = append(ratios[name], base.Seconds()/took.Seconds())
		}
	}
	for name, list := range ratios {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], "x-"+name)
	}
}

func run1(b *testing.B, name string, args ...string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

func remove(c *cluster.Cluster, image string) {
	c.Rbd("snap", "purge", "--no-progress", "rbd/"+image)
	c.Rbd("rm", "--no-progress", "rbd/"+image)
}
