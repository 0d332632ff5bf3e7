package packed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// noise are bytes that don't compress.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

// mixed is content as images have it: noise, text, and zeros.
func mixed(n int) []byte {
	p := make([]byte, n)
	for at, k := 0, uint64(0); at < n; k++ {
		end := min(at+int(1+k*7919%11)<<17, n)
		switch k % 3 {
		case 0:
			copy(p[at:end], noise(k, end-at))
		case 1:
			for i := at; i < end; i += 32 {
				copy(p[i:end], fmt.Sprintf("%032d", uint64(i)*k))
			}
		}
		at = end
	}
	return p
}

// tool pipes data through a program.
func tool(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	testenv.Need(t, "program:"+args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v %s", args, err, stderr.Bytes())
	}
	return out.Bytes()
}

func mapOf(t testing.TB, c *Cache, file []byte, codec Codec, inTar bool) *Map {
	t.Helper()
	m, err := c.Scan(t.Context(), bytes.NewReader(file), int64(len(file)), codec, inTar, "id")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(m.Encode(), "id")
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func testCache(t testing.TB, folder string, limit int64) *Cache {
	t.Helper()
	c, err := NewCache(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A counter counts what is read of a file.
type counter struct {
	*bytes.Reader
	n int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// TestContent: what the tools pack is given at any offset, in any order.
func TestContent(t *testing.T) {
	big, small := mixed(23<<20+1234), mixed(300_000)
	half := len(big) / 2
	tests := []struct {
		name  string
		codec Codec
		pack  func(t testing.TB, data []byte) []byte
	}{
		{"gzip", Gzip, func(t testing.TB, data []byte) []byte { return tool(t, data, "gzip", "-1") }},
		{"gzip, padded", Gzip, func(t testing.TB, data []byte) []byte {
			return append(tool(t, data, "gzip", "-1"), make([]byte, 1000)...)
		}},
		{"pigz", Gzip, func(t testing.TB, data []byte) []byte { return tool(t, data, "pigz", "-1") }},
		{"bgzip", Gzip, func(t testing.TB, data []byte) []byte { return tool(t, data, "bgzip", "-c", "-l", "1") }},
		{"two gzip", Gzip, func(t testing.TB, data []byte) []byte {
			n := min(half, len(data))
			return append(tool(t, data[:n], "gzip", "-1"), tool(t, data[n:], "gzip", "-1")...)
		}},
		{"zstd", Zstd, func(t testing.TB, data []byte) []byte { return tool(t, data, "zstd", "-1") }},
		{"zstd -T2 --check", Zstd, func(t testing.TB, data []byte) []byte { return tool(t, data, "zstd", "-T2", "--check") }},
		{"zstd --no-check", Zstd, func(t testing.TB, data []byte) []byte { return tool(t, data, "zstd", "--no-check") }},
		{"zstd --long", Zstd, func(t testing.TB, data []byte) []byte { return tool(t, data, "zstd", "--long=27") }},
		{"pzstd", Zstd, func(t testing.TB, data []byte) []byte { return tool(t, data, "pzstd", "-1", "-q") }},
		{"tar", Tar, func(_ testing.TB, data []byte) []byte { return data }},
	}
	for _, test := range tests {
		for _, inTar := range []bool{false, true} {
			for _, data := range [][]byte{big, small, {}, {7}, make([]byte, 20<<20)} {
				if test.codec == Tar && len(data) == 0 {
					continue // no segment of an empty file
				}
				t.Run(fmt.Sprintf("%s/%v/%d", test.name, inTar, len(data)), func(t *testing.T) {
					if len(data) > len(small) {
						testenv.Long(t)
					}
					file := data
					if inTar {
						file = tarOf(t, data)
					}
					file = test.pack(t, file)
					c := testCache(t, t.TempDir(), 1<<30)
					m := mapOf(t, c, file, test.codec, inTar)
					compare(t, c, file, m, data)
				})
			}
		}
	}
}

// tarOf is an archive of one file.
func tarOf(t testing.TB, data []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return tool(t, nil, "tar", "-C", dir, "-cf", "-", "image")
}

// TestSparseTar: an archive of a file with holes isn't taken, whichever way they are
// written down: what is in the archive isn't the file.
func TestSparseTar(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "image")
	if err := os.WriteFile(name, noise(1, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	truncate(t, name, 8<<20)
	for _, how := range [][]string{
		{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"},
	} {
		file := tool(t, nil, append([]string{"tar", "-C", dir, "-S", "-cf", "-", "image"}, how...)...)
		if len(file) > 1<<20 {
			t.Fatal("the file system of the test knows no holes")
		}
		_, err := testCache(t, "", 0).Scan(t.Context(), bytes.NewReader(file), int64(len(file)), Tar, true, "id")
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", how, err)
		}
	}
}

// compare reads all over the content.
func compare(t *testing.T, c *Cache, file []byte, m *Map, want []byte) {
	t.Helper()
	if m.Size() != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", m.Size(), len(want))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		off := rng.IntN(len(want) + 1)
		n := min(rng.IntN(3<<20>>(i%12))+1, len(want)-off)
		p := make([]byte, n)
		if err := c.ReadAt(t.Context(), bytes.NewReader(file), int64(len(file)), m, p, int64(off)); err != nil {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
		if !bytes.Equal(p, want[off:off+n]) {
			t.Fatalf("%d bytes at %d differ", n, off)
		}
	}
	for at := int64(0); at < m.Size(); {
		data := m.NextData(at)
		if !isZero(want[at:data]) {
			t.Fatalf("a hole at %d to %d isn't one", at, data)
		}
		if data == m.Size() {
			break
		}
		at = m.NextHole(data)
		if at <= data || at < m.Size() && at%zeroSize != 0 {
			t.Fatalf("data from %d to %d", data, at)
		}
	}
}

// TestNearby: with places to begin at, and with the store, a read unpacks little.
func TestNearby(t *testing.T) {
	data := noise(1, 64<<20)
	for name, file := range map[string][]byte{
		"gzip": tool(t, data, "gzip", "-1"), "bgzip": tool(t, data, "bgzip", "-c", "-l", "1"), "pzstd": tool(t, data, "pzstd", "-1", "-q", "-p", "8"),
	} {
		codec := Gzip
		if name == "pzstd" {
			codec = Zstd
		}
		c := testCache(t, t.TempDir(), 1<<30)
		m := mapOf(t, c, file, codec, false)
		src := &counter{bytes.NewReader(file), 0}
		p := make([]byte, 4096)
		if err := c.ReadAt(t.Context(), src, int64(len(file)), m, p, 60<<20); err != nil {
			t.Fatal(err)
		}
		if src.n > farBehind+1<<20 || !bytes.Equal(p, data[60<<20:60<<20+4096]) {
			t.Errorf("%s: read %d bytes of the file", name, src.n)
		}
	}
}

// TestCutOff: a file that was cut off anywhere is never taken for whole.
func TestCutOff(t *testing.T) {
	data := mixed(3 << 20)
	for codec, files := range map[Codec][][]byte{
		Gzip: {tool(t, data, "gzip"), tool(t, data, "bgzip", "-c")},
		Zstd: {tool(t, data, "zstd"), tool(t, data, "pzstd", "-q")},
	} {
		for _, file := range files {
			for i := range 40 {
				n := 1 + (len(file)-1)*i/40
				if _, err := testCache(t, "", 0).Scan(t.Context(), bytes.NewReader(file), int64(n), codec, false, "id"); !errors.Is(err, ErrIncomplete) {
					t.Errorf("%s of %d of %d bytes: %v", codec, n, len(file), err)
				}
			}
		}
	}
}

// TestCutBetween: what bgzip and pzstd write tells also of a cut between two parts.
func TestCutBetween(t *testing.T) {
	data := noise(1, 12<<20)
	for codec, file := range map[Codec][]byte{Gzip: tool(t, data, "bgzip", "-c"), Zstd: tool(t, data, "pzstd", "-q", "-p", "4")} {
		c := testCache(t, "", 0)
		m := mapOf(t, c, file, codec, false)
		if len(m.points) < 2 {
			t.Fatalf("%s: %d points", codec, len(m.points))
		}
		n := m.points[1].at.in
		if codec == Zstd {
			n += 12 // with what announces the next one
		}
		if _, err := c.Scan(t.Context(), bytes.NewReader(file), n, codec, false, "id"); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", codec, err)
		}
	}
}

// TestBroken: bytes that changed give an error, at once or when they are read.
func TestBroken(t *testing.T) {
	data := mixed(3 << 20)
	rng := rand.New(rand.NewPCG(3, 3))
	for codec, file := range map[Codec][]byte{Gzip: tool(t, data, "gzip"), Zstd: tool(t, data, "zstd", "--check")} {
		whole := mapOf(t, testCache(t, "", 0), file, codec, false)
		for range 60 {
			bad := bytes.Clone(file)
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			if m, err := testCache(t, "", 0).Scan(t.Context(), bytes.NewReader(bad), int64(len(bad)), codec, false, "id"); err == nil {
				compare(t, testCache(t, "", 0), bad, m, data) // a byte that means nothing
			} else if e := (*Error)(nil); !errors.As(err, &e) {
				t.Errorf("%s: %v", codec, err)
			}
			c := testCache(t, "", 0)
			p := make([]byte, len(data))
			if err := c.ReadAt(t.Context(), bytes.NewReader(bad), int64(len(bad)), whole, p, 0); err == nil && !bytes.Equal(p, data) {
				t.Errorf("%s: wrong bytes", codec)
			}
		}
	}
}

// TestPositions: errors tell the byte in the file near which something is wrong.
func TestPositions(t *testing.T) {
	data := noise(2, 3<<20)
	for codec, args := range map[Codec][]string{
		Gzip: {"bgzip", "-c"}, LZ4: {"lz4", "-c", "-B4"}, Bzip2: {"bzip2", "-c", "-1"}, XZ: {"xz", "-0", "-T2", "--block-size=128KiB"},
	} {
		file := tool(t, data, args...)
		c := testCache(t, "", 0)
		m := mapOf(t, c, file, codec, false)
		m.sums[2] ^= 1
		err := c.ReadAt(t.Context(), bytes.NewReader(file), int64(len(file)), m, make([]byte, 1), 2<<20)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrCorrupt) || e.Pos < int64(len(file))*9/10 || e.Pos > int64(len(file)) {
			t.Errorf("%s of %d bytes: %v", codec, len(file), err)
		}
		bad := bytes.Clone(file)
		at := int64(len(bad) / 2)
		bad[at] ^= 1
		_, err = c.Scan(t.Context(), bytes.NewReader(bad), int64(len(bad)), codec, false, "id")
		if !errors.As(err, &e) || e.Pos < at-200<<10 || e.Pos > at+200<<10 && codec != LZ4 {
			t.Errorf("%s, changed at %d: %v", codec, at, err) // of LZ4 only all has a checksum
		}
	}
}

// TestSourceErrors: what the disk says isn't taken for a broken file.
func TestSourceErrors(t *testing.T) {
	file := tool(t, noise(1, 3<<20), "gzip", "-1")
	if _, err := testCache(t, "", 0).Scan(t.Context(), failing{bytes.NewReader(file)}, int64(len(file)), Gzip, false, "id"); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	c := testCache(t, "", 0)
	m := mapOf(t, c, file, Gzip, false)
	p := make([]byte, 1)
	if err := c.ReadAt(t.Context(), failing{bytes.NewReader(file)}, int64(len(file)), m, p, 2<<20); !errors.Is(err, errDisk) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.ReadAt(ended, bytes.NewReader(file), int64(len(file)), m, p, 2<<20); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

var errDisk = errors.New("disk")

type failing struct{ *bytes.Reader }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off > 1<<20 {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}
