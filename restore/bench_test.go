package restore

import (
	"context"
	"fmt"
	"os"
	"testing"

	"rbdbackupfs/rbddiff"
)

// BenchmarkWrite restores 256 MiB into a folder: what this package itself costs.
func BenchmarkWrite(b *testing.B) {
	const size = 256 << 20
	data := pattern(size, 1)
	contents := map[string][]byte{
		"raw":     data,
		"diff":    diff(stepSpec{to: "s1", size: size, extents: cut(data, 4<<20)}),
		"diff4K":  diff(stepSpec{to: "s1", size: size, extents: cut(data, 4096)}),
		"export":  encode(rbddiff.Container, stepSpec{to: "s1", size: size, extents: cut(data, 4<<20)}, stepSpec{from: "s1", size: size}),
		"overlap": diff(stepSpec{to: "s1", size: size, extents: append(cut(data, 1<<20), cut(data, 1<<20)...)}),
	}
	for name, content := range contents {
		for _, piece := range []int{128 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dK", name, piece>>10), func(b *testing.B) {
				bench := newBench(b)
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					j, err := bench.m.Start(context.Background(), image("vm"))
					bench.must(err)
					for off := 0; off < len(content); off += piece {
						p := content[off:min(off+piece, len(content))]
						if _, err := j.WriteAt(context.Background(), p, int64(off)); err != nil {
							b.Fatal(err)
						}
					}
					bench.must(j.Flush(context.Background(), false))
					j.Release()
					<-j.Done()
					bench.must(os.Remove(bench.path("vm")))
				}
			})
		}
	}
}

// cut makes extents of n bytes.
func cut(data []byte, n int) []extentSpec {
	var list []extentSpec
	for off := 0; off < len(data); off += n {
		list = append(list, extentSpec{off: int64(off), data: data[off : off+n]})
	}
	return list
}
