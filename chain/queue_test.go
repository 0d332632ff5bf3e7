package chain

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// TestIdleBeforeListed: images that are done before the first listing is marked
// as complete, as with an index that knows them all, leave nobody waiting.
func TestIdleBeforeListed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vm.raw"), bytes.Repeat([]byte{1}, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(dir, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var found []repo.Change
	err = r.Watch(ctx, func(string, repo.Pin) bool { return true }, func(changes []repo.Change) {
		found = append(found, changes...)
		cancel()
	})
	if !errors.Is(err, context.Canceled) || len(found) == 0 {
		t.Fatalf("Watch: %d changes, %v", len(found), err)
	}
	ix, err := index.Open(index.Memory, index.Options{Repo: r.Root()})
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Options{Repo: r, Index: ix})
		if err != nil {
			t.Fatal(err)
		}
		go l.work(t.Context())
		l.apply(found)
		synctest.Wait()
		l.firstList()
		synctest.Wait()
		select {
		case <-l.Idle():
		default:
			t.Errorf("not idle: %+v", l.Status())
		}
		l.mu.Lock()
		l.ended = true
		l.wake.Broadcast()
		l.mu.Unlock()
	})
}
