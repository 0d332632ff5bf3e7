package chain

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// TestNoteAtOnce: what was learned of a file stays, though another one in the folder
// is still being unpacked when the reader is ended.
func TestNoteAtOnce(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = encoder.Close() }()
	dir := t.TempDir()
	small := encoder.EncodeAll([]byte("an image"), nil)
	large := bytes.Repeat(encoder.EncodeAll(make([]byte, 64<<20), nil), 10_000) // takes minutes
	for name, data := range map[string][]byte{"a.raw.zst": small, "b.raw.zst": large} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := repo.Open(dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ix, err := index.Open(index.Memory, index.Options{Repo: r.Root()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Options{Repo: r, Index: ix})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	ticks, limit := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer ticks.Stop()
	for noted := false; !noted; {
		select {
		case <-ticks.C:
		case <-limit:
			t.Error("nothing is noted")
			noted = true
		}
		err := ix.Notes(filePrefix, func(key string, _ []byte) error {
			noted = noted || key == filePrefix+"a.raw.zst"
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if s := l.Status(); s.Progress.FilesDone != 1 {
		t.Errorf("%d files are done: the test is blind", s.Progress.FilesDone)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := errors.Join(l.Close(), ix.Close(), r.Close()); err != nil {
		t.Error(err)
	}
}

// TestBytesDone: how far a compressed file is read is told while it is.
func TestBytesDone(t *testing.T) {
	f := &fileState{path: "a.gz"}
	f.pin.Size = 100
	s := scanned{strings.NewReader(strings.Repeat("x", 1000)), &f.scanned}
	for _, step := range []struct{ off, want int64 }{{0, 30}, {30, 60}, {90, 100}} {
		if _, err := s.ReadAt(make([]byte, 30), step.off); err != nil {
			t.Fatal(err)
		}
		if got := f.bytesDone(); got != step.want {
			t.Errorf("read to %d: %d", step.off+30, got)
		}
	}
	f.scanned.Store(0)
	f.info = &fileInfo{}
	if got := f.bytesDone(); got != 100 {
		t.Errorf("known: %d", got)
	}
}
