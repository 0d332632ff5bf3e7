package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mountOwner is an owner that lasts, and alive: this process.
func mountOwner() Owner {
	return Owner{PID: os.Getpid(), Command: "mount", Started: time.Unix(1, 0), Mountpoint: "/mnt/b"}
}

func commandOwner() Owner {
	return Owner{PID: os.Getpid(), Command: "ls", Started: time.Unix(1, 0)}
}

func acquire(t *testing.T, dir string, owner Owner) *Lock {
	t.Helper()
	lock, err := Acquire(t.Context(), dir, owner, 0)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func release(t *testing.T, lock *Lock) {
	t.Helper()
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestLockOfAMountIsRefusedAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "index")
	lock := acquire(t, dir, mountOwner())
	defer release(t, lock)
	// A patience of hours: the test would hang if it waited.
	_, err := Acquire(t.Context(), dir, mountOwner(), time.Hour)
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) {
		t.Fatalf("got %v, want a LockedError", err)
	}
	if locked.Owner.Mountpoint != "/mnt/b" || locked.Owner.PID != os.Getpid() {
		t.Errorf("owner is %+v", locked.Owner)
	}
	for _, part := range []string{dir, "/mnt/b", "pid"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't name %s", err, part)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("index folder: %v %v, want mode 0700", info.Mode(), err)
	}
}

func TestLockOfACommandIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	first := acquire(t, dir, commandOwner())
	type outcome struct {
		lock *Lock
		err  error
	}
	second := make(chan outcome)
	go func() {
		lock, err := Acquire(context.Background(), dir, mountOwner(), time.Hour)
		second <- outcome{lock, err}
	}()
	select {
	case o := <-second:
		t.Fatalf("got the lock while another has it: %v", o.err)
	default:
	}
	release(t, first)
	o := <-second
	if o.err != nil {
		t.Fatal(o.err)
	}
	defer release(t, o.lock)
	if owner, held := Holder(dir); !held || owner.Mountpoint != "/mnt/b" {
		t.Errorf("holder is %+v, %v", owner, held)
	}
}

func TestPatienceEnds(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, commandOwner())
	defer release(t, lock)
	_, err := Acquire(t.Context(), dir, mountOwner(), time.Millisecond)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Owner.Command != "ls" {
		t.Errorf("got %v, want a LockedError of ls", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Acquire(ctx, dir, mountOwner(), time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}

func TestNameOfTheDeadIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	// A holder that was killed leaves its name: here a mount with a pid that
	// no process can have. Who holds the lock now has not written its own yet.
	dead := mountOwner()
	dead.PID = 1 << 30
	lock := acquire(t, dir, dead)
	defer release(t, lock)
	if owner, held := Holder(dir); !held || owner != (Owner{}) {
		t.Errorf("holder is %+v, %v; want nobody's name, and held", owner, held)
	}
	if _, err := Acquire(t.Context(), dir, commandOwner(), time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want locked", err)
	}
}

func TestWaitFree(t *testing.T) {
	dir := t.TempDir()
	if err := WaitFree(t.Context(), dir); err != nil {
		t.Errorf("without a lock file: %v", err)
	}
	lock := acquire(t, dir, mountOwner())
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := WaitFree(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is held: %v", err)
	}
	free := make(chan error)
	go func() { free <- WaitFree(context.Background(), dir) }()
	release(t, lock)
	if err := <-free; err != nil {
		t.Error(err)
	}
	if _, held := Holder(dir); held {
		t.Error("held after its release")
	}
}

func TestFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Acquire(t.Context(), filepath.Join(file, "index"), mountOwner(), 0)
	var typed *Error
	if !errors.As(err, &typed) || !strings.Contains(typed.Hint, "--index DIR") {
		t.Errorf("got %v, want the cure", err)
	}
}
