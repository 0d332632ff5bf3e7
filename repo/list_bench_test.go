package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func plantTree(tb testing.TB, folders, each int) string {
	tb.Helper()
	dir := tb.TempDir()
	for i := range folders {
		sub := filepath.Join(dir, fmt.Sprintf("pool/vm-%04d", i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			tb.Fatal(err)
		}
		for j := range each {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("snap-2024-%06d.diff", j)), nil, 0o644); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return dir
}

func BenchmarkList(b *testing.B) {
	for _, shape := range []struct{ folders, each int }{{1000, 100}, {1, 100000}} {
		b.Run(fmt.Sprintf("%dx%d", shape.folders, shape.each), func(b *testing.B) {
			r, err := Open(plantTree(b, shape.folders, shape.each), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.ReportAllocs()
			for b.Loop() {
				files, _, err := r.List(b.Context())
				if err != nil || len(files) != shape.folders*shape.each {
					b.Fatal(len(files), err)
				}
			}
		})
	}
}
