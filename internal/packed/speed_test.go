package packed

import (
	"bytes"
	"testing"
)

// BenchmarkRead reads packed content from memory through a Cache that was just
// opened: in order, 128 KiB at a time, as the kernel does, and 4 KiB anywhere.
func BenchmarkRead(b *testing.B) {
	data := mixed(128 << 20)
	for _, test := range []struct {
		name  string
		codec Codec
		args  []string
	}{
		{"gzip", Gzip, []string{"gzip", "-1"}},
		{"bgzip", Gzip, []string{"bgzip", "-c"}},
		{"zstd", Zstd, []string{"zstd"}},
		{"pzstd", Zstd, []string{"pzstd", "-q"}},
		{"lz4", LZ4, []string{"lz4", "-c"}},
		{"xz", XZ, []string{"xz", "-0", "-T2", "--block-size=4MiB"}},
	} {
		file := tool(b, data, test.args...)
		folder := b.TempDir()
		c := testCache(b, folder, 1<<30)
		m := mapOf(b, c, file, test.codec, false)
		src, size := bytes.NewReader(file), int64(len(file))
		b.Run(test.name+"/scan", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				mapOf(b, testCache(b, "", 0), file, test.codec, false)
			}
		})
		b.Run(test.name+"/in order", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			p := make([]byte, 128<<10)
			for b.Loop() {
				for off := int64(0); off < m.size; off += int64(len(p)) {
					if err := c.ReadAt(b.Context(), src, size, m, p, off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(test.name+"/anywhere", func(b *testing.B) {
			p := make([]byte, 4096)
			for i := int64(0); b.Loop(); i++ {
				if err := c.ReadAt(b.Context(), src, size, m, p, (i*7919*ChunkSize+4096)%(m.size-4096)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
