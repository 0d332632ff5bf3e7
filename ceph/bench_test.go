//go:build cgo && !noceph

package ceph_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/tests/cluster"
)

// BenchmarkRestore compares writing an image by this package with what rbd does
// with the same bytes. Only figures of one run say anything: use -count.
func BenchmarkRestore(b *testing.B) {
	c := cluster.Start(b)
	const size = 1 << 30
	data := make([]byte, 0, size)
	for i := range uint64(16) {
		data = append(data, noise(i, size/16)...)
	}
	raw, diff := filepath.Join(b.TempDir(), "raw"), filepath.Join(b.TempDir(), "diff")
	head := "rbd diff v1\ns\x00\x00\x00\x40\x00\x00\x00\x00"
	var text bytes.Buffer
	text.WriteString(head)
	for off := 0; off < size; off += 4 * mib {
		text.WriteString("w")
		for _, n := range []int{off, 4 * mib} {
			for shift := range 8 {
				text.WriteByte(byte(n >> (8 * shift)))
			}
		}
		text.Write(data[off : off+4*mib])
	}
	text.WriteString("e")
	if err := os.WriteFile(raw, data, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(diff, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("import", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			c.Rbd("import", "--no-progress", raw, "bench")
			b.StopTimer()
			c.Rbd("rm", "--no-progress", "bench")
			b.StartTimer()
		}
	})
	b.Run("import-diff", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			c.Rbd("create", "--size", "1G", "bench")
			c.Rbd("import-diff", "--no-progress", diff, "bench")
			b.StopTimer()
			c.Rbd("rm", "--no-progress", "bench")
			b.StartTimer()
		}
	})
	b.Run("target", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			tg, err := ceph.OpenTarget(b.Context(), ceph.Config{Conf: c.Conf}, target.Layout{}, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			im, err := tg.Create(b.Context(), newJob("bench", false, ""), size, target.Layout{})
			if err != nil {
				b.Fatal(err)
			}
			writeAll(b, im, data)
			if err := im.Commit(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := im.Close(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = tg.Close()
			c.Rbd("rm", "--no-progress", "bench")
			b.StartTimer()
		}
	})
}

// writeAll writes as the image's hints say.
func writeAll(b *testing.B, im target.Image, data []byte) {
	b.Helper()
	hints := im.Hints()
	offsets := make(chan int64)
	var writers sync.WaitGroup
	for range hints.Parallel {
		writers.Go(func() {
			for off := range offsets {
				end := min(off+hints.Chunk, int64(len(data)))
				if err := im.WriteAt(b.Context(), data[off:end], off); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for off := int64(0); off < int64(len(data)); off += hints.Chunk {
		offsets <- off
	}
	close(offsets)
	writers.Wait()
}
