package mount

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/model"
)

// bombMemory is what the daemon may have had at most, KiB. The race detector takes a
// multiple of what the program does.
func bombMemory() int {
	if raceEnabled {
		return 4 * 300 << 10
	}
	return 300 << 10
}

// TestPackedBomb mounts files that unpack to more than a thousand times their size:
// zeros, as a disk that was never written to has. They take neither memory nor disk,
// and are as sparse as if they had been exported with holes.
func TestPackedBomb(t *testing.T) {
	testenv.Need(t, "packers")
	repo := t.TempDir()
	const part = 32 << 20 // bytes of zeros that are packed once, and repeated
	bombs := map[string]int64{"zstd-19": 64, "gzip": 4, "lz4": 2, "lz4-legacy": 2, "xz": 2, "bzip2": 2, "tar.gz": 1}
	zeros := make([]byte, part)
	if raceEnabled {
		bombs["zstd-19"] /= 4 // unpacking is that much slower
	}
	for name, times := range bombs {
		p := packerOf(t, name)
		packed := bytes.Repeat(p.bytes(t, "x.raw", zeros), int(times))
		place(t, filepath.Join(repo, name, "x.raw"+p.ext), packed)
	}
	// A disk that has something at its end alone, and one that a diff fills with zeros.
	tail, gzip := []byte("the end of the disk"), packerOf(t, "gzip")
	packed := append(gzip.bytes(t, "x.raw", zeros), gzip.bytes(t, "x.raw", tail)...)
	place(t, filepath.Join(repo, "tail", "x.raw.gz"), packed)
	diff := bytes.ReplaceAll(compiled(t, fmt.Sprintf(`diff1 t "x" s %d w 0~%d e`, part, part)), []byte("W"), []byte{0})
	packerOf(t, "zstd").put(t, filepath.Join(repo, "diff"), "x.diff", diff)

	start := time.Now()
	m := Start(t, repo)
	t.Logf("mounted after %v", time.Since(start))
	for name, times := range bombs {
		checkZeros(t, m.Image(name, "x"), part*times)
	}
	checkTail(t, m.Image("tail", "x"), part, tail)
	CheckImage(t, m.Image("diff", "x"), &model.State{Bytes: zeros, Data: []model.Range{{Start: 0, End: part}}, Ways: 1})
	if peak := peakMemory(t, m.PID); peak > bombMemory() {
		t.Errorf("the daemon took %d KiB of memory, want at most %d", peak, bombMemory())
	} else {
		t.Logf("the daemon took %d KiB of memory", peak)
	}
	if size := folderSize(t, filepath.Join(m.Index, "cache")); size > 4<<20 {
		t.Errorf("the cache has %d bytes for zeros", size)
	}
}

// checkZeros looks at an image that is one hole.
func checkZeros(t *testing.T, path string, size int64) {
	t.Helper()
	f := open(t, path)
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != size || allocated(t, path) != 0 {
		t.Errorf("%s: %d bytes, %d allocated; want %d and none", path, info.Size(), allocated(t, path), size)
		return
	}
	if ranges, err := DataRanges(f); err != nil || len(ranges) != 0 {
		t.Errorf("%s: data at %v, %v", path, ranges, err)
	}
	random := rand.New(rand.NewPCG(uint64(size), 3))
	buf, zeros := make([]byte, 100_000), make([]byte, 100_000)
	for range randomReads {
		off := random.Int64N(size - int64(len(buf)))
		if n, err := f.ReadAt(buf, off); err != nil || !bytes.Equal(buf, zeros) {
			t.Errorf("%s: read at %d gives %d bytes, %v, or others than zeros", path, off, n, err)
			return
		}
	}
}

// checkTail looks at an image that is a hole and then some data.
func checkTail(t *testing.T, path string, hole int64, tail []byte) {
	t.Helper()
	f := open(t, path)
	got := make([]byte, len(tail)+10)
	if n, err := f.ReadAt(got[:len(got)-1], hole-9); err != nil || !bytes.Equal(got[9:n], tail) {
		t.Errorf("%s: the end is %q, %v", path, got, err)
	}
	want := model.Range{Start: hole, End: hole + int64(len(tail))}
	if ranges, err := DataRanges(f); err != nil || len(ranges) != 1 || ranges[0] != want {
		t.Errorf("%s: data at %v, %v; want %v", path, ranges, err, want)
	}
}

// peakMemory is the most that a process had in memory so far, KiB.
func peakMemory(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatalf("no VmHWM in %s", status)
	return 0
}

// folderSize is what the files in a folder hold, bytes. They may come and go.
func folderSize(t *testing.T, dir string) int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}
