package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A packer is a program that users pack their exports with.
type packer struct {
	name  string // of the case
	ext   string // of the file
	codec string // as ls calls it
	// command reads stdin and writes stdout, but that of an archive, which gets the
	// file's folder and name as two more arguments.
	command string
	archive bool
	// sum is true where the format has a checksum of the content: only then a byte that
	// was changed can be noticed.
	sum bool
}

func packers() []packer {
	return []packer{
		{"gzip", ".gz", "gzip", "gzip -c", false, true},
		{"pigz", ".gz", "gzip", "pigz -c", false, true},
		{"bgzip", ".gz", "gzip", "bgzip -c", false, true},
		{"zstd", ".zst", "zstd", "zstd -q -c", false, true},
		{"zstd-19", ".zst", "zstd", "zstd -q -19 -c", false, true},
		{"pzstd", ".zst", "zstd", "pzstd -q -c", false, true},
		{"lz4", ".lz4", "lz4", "lz4 -q -c", false, true},
		{"lz4-linked", ".lz4", "lz4", "lz4 -q -B4 -BD -c", false, true},
		{"lz4-legacy", ".lz4", "lz4", "lz4 -q -l -c", false, false},
		{"xz", ".xz", "xz", "xz -c", false, true},
		{"xz-blocks", ".xz", "xz", "xz -T0 --block-size=64KiB -c", false, true},
		{"bzip2", ".bz2", "bzip2", "bzip2 -c", false, true},
		{"pbzip2", ".bz2", "bzip2", "pbzip2 -c", false, true},
		{"tar", ".tar", "tar", "tar -cf - -C", true, false},
		{"tar.gz", ".tar.gz", "gzip", "tar -czf - -C", true, true},
		{"tzst", ".tzst", "zstd", "tar --zstd -cf - -C", true, true},
	}
}

// packerOf finds a packer by its name.
func packerOf(t *testing.T, name string) packer {
	t.Helper()
	for _, p := range packers() {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("no packer %q", name)
	return packer{}
}

// file packs a file.
func (p packer) file(source string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	words := strings.Fields(p.command)
	if p.archive {
		words = append(words, filepath.Dir(source), filepath.Base(source))
	}
	in, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", p.command, err, &complaint)
	}
	return out.Bytes(), nil
}

// bytes packs what a file of the given name would hold.
func (p packer) bytes(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	source := filepath.Join(t.TempDir(), name)
	write(t, source, data)
	out, err := p.file(source)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// put packs what a file would hold into dir, with the packer's ending, and returns
// the path.
func (p packer) put(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name+p.ext)
	place(t, path, p.bytes(t, name, data))
	return path
}

// place writes a file and the folders above it.
func place(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, data)
}

// packTree packs each file below a folder, with one packer after the other or all
// with the same one.
func packTree(t *testing.T, from, to string, with ...packer) {
	t.Helper()
	var group sync.WaitGroup
	room := make(chan struct{}, 2*runtime.GOMAXPROCS(0)) // programs mostly wait for their start
	n := 0
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		p := with[n%len(with)]
		n++
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			data, err := p.file(path)
			target := filepath.Join(to, rel+p.ext)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, data, 0o644))
			if err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	group.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatalf("%s holds no file", from)
	}
}

// dropPages has the kernel forget what it has of a file, so that the next read comes
// to the daemon.
func dropPages(t *testing.T, f *os.File) {
	t.Helper()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}
