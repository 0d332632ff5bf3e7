package rbddiff

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// sparseDiff writes a diff v1 of n data records to a file whose data are holes,
// so that it costs the disk nothing.
func sparseDiff(b *testing.B, n int, length int64) *os.File {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "bench.diff"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	pos := int64(0)
	put := func(rec Record) {
		head := AppendRecord(nil, DiffV1, rec)
		_, writeErr := file.WriteAt(head, pos)
		err = errors.Join(err, writeErr)
		pos += int64(len(head)) + rec.Length
	}
	put(Record{Kind: DiffStart})
	put(Record{Kind: Size, Size: int64(n) * length})
	for i := range n {
		put(Record{Kind: Data, Offset: int64(i) * length, Length: length})
	}
	put(Record{Kind: End})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, file); err != nil { // into the page cache
		b.Fatal(err)
	}
	return file
}

// BenchmarkScan walks a file in the page cache: seeking, by pread through a
// section, and as a stream.
func BenchmarkScan(b *testing.B) {
	for _, shape := range []struct {
		n      int
		length int64
	}{{200_000, 512}, {100_000, 4 << 10}, {20_000, 16 << 10}, {5_000, 64 << 10}, {200, 4 << 20}} {
		file := sparseDiff(b, shape.n, shape.length)
		info, err := file.Stat()
		if err != nil {
			b.Fatal(err)
		}
		sources := []struct {
			name string
			src  func() io.Reader
		}{
			{"seek", func() io.Reader { return file }},
			{"section", func() io.Reader { return io.NewSectionReader(file, 0, info.Size()) }},
			{"stream", func() io.Reader { return streamOnly{file} }},
		}
		for _, source := range sources {
			b.Run(fmt.Sprintf("record=%d/%s", shape.length, source.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := file.Seek(0, io.SeekStart); err != nil {
						b.Fatal(err)
					}
					if _, err := Scan(source.src(), -1); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(shape.n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkWriter writes 4 KiB records.
func BenchmarkWriter(b *testing.B) {
	data := make([]byte, 4096)
	w, err := NewWriter(bufio.NewWriter(io.Discard), DiffV1)
	if err != nil {
		b.Fatal(err)
	}
	err = errors.Join(w.WriteRecord(Record{Kind: DiffStart}), w.WriteRecord(Record{Kind: Size, Size: MaxSize}))
	b.SetBytes(4096)
	for off := int64(0); b.Loop(); off += 4096 {
		err = errors.Join(err, w.WriteRecord(Record{Kind: Data, Offset: off, Length: 4096}))
		_, writeErr := w.Write(data)
		err = errors.Join(err, writeErr)
	}
	if err != nil {
		b.Fatal(err)
	}
}
