package mount

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
)

const (
	packedSpeedSize  = 512 << 20 // bytes of the image that BenchmarkPacked reads
	packedSpeedReads = 200       // of 4 KiB, anywhere
)

// BenchmarkPacked mounts a compressed image, reads it in order beside the tool that
// unpacks it, and then 4 KiB anywhere. It reports the medians over the rounds. Rounds
// are paired, since machines change their speed.
func BenchmarkPacked(b *testing.B) {
	testenv.Need(b, "packers")
	data := mixed(packedSpeedSize)
	for _, test := range []struct{ name, ext, tool string }{
		{"gzip", ".gz", "gzip"}, {"bgzip", ".gz", "bgzip"}, {"zstd", ".zst", "zstd"}, {"pzstd", ".zst", "pzstd"},
		{"lz4", ".lz4", "lz4"}, {"xz", ".xz", "xz"}, {"bzip2", ".bz2", "bzip2"},
	} {
		b.Run(test.name, func(b *testing.B) {
			repo := b.TempDir()
			p := packers()[slices.IndexFunc(packers(), func(p packer) bool { return p.name == test.name })]
			source := filepath.Join(b.TempDir(), "x.raw")
			if err := os.WriteFile(source, data, 0o600); err != nil {
				b.Fatal(err)
			}
			packed, err := p.file(source)
			if err != nil {
				b.Fatal(err)
			}
			file := filepath.Join(repo, "x.raw"+test.ext)
			if err := os.WriteFile(file, packed, 0o600); err != nil {
				b.Fatal(err)
			}
			times := map[string][]float64{}
			for b.Loop() {
				packedRound(b, repo, file, test.tool, times)
			}
			for unit, list := range times {
				slices.Sort(list)
				b.ReportMetric(list[len(list)/2], unit)
			}
		})
	}
}

func packedRound(b *testing.B, repo, file, tool string, times map[string][]float64) {
	b.Helper()
	note := func(unit string, value float64) { times[unit] = append(times[unit], value) }
	start := time.Now()
	m := Start(b, repo)
	note("mount-s", time.Since(start).Seconds())
	image := m.Image(filepath.Base(repo), "x")
	start = time.Now()
	f := open(b, image)
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil || n != packedSpeedSize {
		b.Fatalf("%d bytes, %v", n, err)
	}
	read := time.Since(start).Seconds()
	start = time.Now()
	if err := exec.CommandContext(b.Context(), tool, "-dc", file).Run(); err != nil { // to /dev/null
		b.Fatal(err)
	}
	unpacked := time.Since(start).Seconds()
	note("MB/s-in-order", packedSpeedSize/1e6/read)
	note("MB/s-tool", packedSpeedSize/1e6/unpacked)
	note("x-tool", unpacked/read)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	m.Stop()
	// Mounted again: nothing is in memory.
	m.Again()
	f = open(b, image)
	rng := rand.New(rand.NewPCG(uint64(len(times["x-tool"])), 1))
	p := make([]byte, 4<<10)
	start = time.Now()
	for range packedSpeedReads {
		if _, err := f.ReadAt(p, rng.Int64N(packedSpeedSize/4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
	note("ms-anywhere", time.Since(start).Seconds()*1e3/packedSpeedReads)
	note("MiB-peak", float64(peakMemory(b, m.PID))/1024)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	m.Stop()
}

// mixed is content as disks have it: noise, text and zeros in turn.
func mixed(n int) []byte {
	data := make([]byte, n)
	noise := rand.NewChaCha8([32]byte{7})
	for at, k := 0, 0; at < n; k++ {
		end := min(at+(1+k*7919%11)<<17, n)
		switch k % 3 {
		case 0:
			_, _ = noise.Read(data[at:end]) // of a generator: never fails
		case 1:
			for i := at; i < end; i += 32 {
				copy(data[i:end], fmt.Sprintf("%032d", i*k))
			}
		}
		at = end
	}
	return data
}
