package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/internal/daemon"
)

// mounting starts a mount in the foreground and gives what waits for its
// readiness, as systemd would.
func mounting(t *testing.T, f *fakeLibrary, usable time.Duration, flags ...string) (ended <-chan outcome, ready func(), stop context.CancelFunc) {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	args := append([]string{"mount", "-f", "--index", ":memory:"}, flags...)
	ended = f.start(ctx, usable, append(args, f.root, t.TempDir())...)
	return ended, func() {
		t.Helper()
		message := make([]byte, 100)
		if n, err := conn.Read(message); err != nil || string(message[:n]) != "READY=1" {
			t.Fatalf("systemd was told %q, %v", message[:n], err)
		}
	}, cancel
}

func TestMountSaysThatIndexingGoesOn(t *testing.T) {
	f := newFake(t.TempDir())
	f.status = chain.Status{Images: 9, Pending: 4, Snapshots: 12, Progress: chain.Progress{Listed: true, FilesDone: 30, FilesTotal: 70}}
	ended, ready, stop := mounting(t, f, time.Millisecond)
	ready()
	stop()
	o := <-ended
	want := "9 images, 12 snapshots so far; indexing 30 of 70 files goes on, see: rbdbackupfs status "
	if o.code != exitOK || !strings.Contains(o.stdout, want) {
		t.Errorf("%+v\nwant %q", o, want)
	}
}

func TestWork(t *testing.T) {
	for _, test := range []struct {
		p          chain.Progress
		want, line string
	}{
		{chain.Progress{}, "0 of 0 files", "listing the folders"},
		{chain.Progress{Listed: true, FilesDone: 1, FilesTotal: 3}, "1 of 3 files", "1 of 3 files, 0 of 0 steps"},
		{
			chain.Progress{Listed: true, FilesDone: 1, FilesTotal: 3, BytesDone: 1 << 30, BytesTotal: 5 << 29, Now: "a.gz"},
			"1.0 GiB of 2.5 GiB", "1 of 3 files, 0 of 0 steps, 1.0 GiB of 2.5 GiB that are compressed, now a.gz",
		},
		{
			chain.Progress{Listed: true, FilesDone: 3, FilesTotal: 3, BytesDone: 9, BytesTotal: 9, StepsDone: 4, StepsTotal: 6},
			"4 of 6 steps", "3 of 3 files, 4 of 6 steps",
		},
	} {
		if got := workLeft(test.p); got != test.want {
			t.Errorf("%+v: %q, want %q", test.p, got, test.want)
		}
		if got := indexing(test.p); got != test.line {
			t.Errorf("%+v: %q, want %q", test.p, got, test.line)
		}
	}
}

func TestMountIsUsableOnceAllChainsAreKnown(t *testing.T) {
	f := newFake(t.TempDir())
	f.status.Images, f.status.Pending = 2, 1
	// Hours: it would hang if it waited for the limit, or for Idle.
	ended, ready, stop := mounting(t, f, time.Hour)
	close(f.listed)
	f.set(func(s *chain.Status) { s.Pending, s.Snapshots, s.Progress.Listed = 0, 5, true })
	ready()
	stop()
	if o := <-ended; o.code != exitOK || !strings.HasSuffix(o.stdout, ": 2 images, 5 snapshots\nlayout: auto, no files\n") {
		t.Errorf("%+v", o)
	}
}

func TestWaitMeansEverything(t *testing.T) {
	f := newFake(t.TempDir())
	f.status.Images, f.status.Snapshots, f.status.Progress.Listed = 1, 1, true
	ended, ready, stop := mounting(t, f, time.Nanosecond, "--wait")
	f.set(func(s *chain.Status) { s.Snapshots = 7 })
	close(f.idle)
	ready()
	stop()
	if o := <-ended; !strings.HasSuffix(o.stdout, ": 1 image, 7 snapshots\nlayout: auto, no files\n") {
		t.Errorf("%+v", o)
	}
}

func TestMountNamesWhereToLookForProblems(t *testing.T) {
	f := newFake(t.TempDir())
	f.status.Problems = []chain.Problem{
		{Image: "a", File: "a/1.diff", Kind: chain.KindIncomplete},
		{Image: "a", File: "a/1.diff", Snapshot: "s", Kind: chain.KindMissingParent},
		{Image: "b", File: "b/1.diff", Kind: chain.KindCorrupt},
		{Image: "b", File: "b/2.diff", Kind: chain.KindUnsettled},
		{Image: "b", File: "b/3.diff", Kind: chain.KindTrailing, Serving: true},
	}
	close(f.idle)
	ended, ready, stop := mounting(t, f, time.Hour)
	ready()
	stop()
	want := "\n2 files have problems; see: rbdbackupfs ls " + f.root + "\n"
	if o := <-ended; o.code != exitOK || !strings.HasSuffix(o.stdout, want) {
		t.Errorf("%+v\nwant %q", o, want)
	}
}

func TestMountFailsWithTheRepository(t *testing.T) {
	f := newFake(t.TempDir())
	f.run <- errFake
	ended, _, _ := mounting(t, f, time.Hour)
	o := <-ended
	if o.code != exitError || o.stderr != "rbdbackupfs: "+errFake.Error()+"\n" || o.stdout != "" {
		t.Errorf("%+v", o)
	}
	select {
	case <-f.done:
	default:
		t.Error("it is still mounted")
	}
}

func TestRepositoryThatFailsLaterIsStillServed(t *testing.T) {
	f := newFake(t.TempDir())
	close(f.idle)
	ended, ready, stop := mounting(t, f, time.Hour)
	ready()
	f.run <- errFake
	select {
	case o := <-ended:
		t.Fatalf("it ended: %+v", o)
	case <-time.After(20 * time.Millisecond):
	}
	stop()
	if o := <-ended; o.code != exitOK || !strings.Contains(o.stderr, errFake.Error()) {
		t.Errorf("%+v", o)
	}
}

func TestInterruptedWhileItStarts(t *testing.T) {
	f := newFake(t.TempDir())
	ended, _, stop := mounting(t, f, time.Hour)
	stop()
	if o := <-ended; o.code != exitError || !strings.Contains(o.stderr, "rbdbackupfs: interrupted\n") || o.stdout != "" {
		t.Errorf("%+v", o)
	}
	<-f.done
}

func TestUnmountedWhileItStarts(t *testing.T) {
	f := newFake(t.TempDir())
	close(f.done)
	ended, _, _ := mounting(t, f, time.Hour)
	if o := <-ended; o.code != exitError || !strings.Contains(o.stderr, errUnmounted.Error()) {
		t.Errorf("%+v", o)
	}
}

func TestBusyMountIsTriedAgain(t *testing.T) {
	f := newFake(t.TempDir())
	close(f.idle)
	busy := fmt.Errorf("loop0 has it: %w", fs.ErrBusy)
	f.busy = []error{busy, busy}
	ended, ready, stop := mounting(t, f, time.Hour)
	ready()
	stop()
	o := <-ended
	if o.code != exitOK || strings.Count(o.stderr, "loop0 has it") != 1 || f.detach != 0 {
		t.Errorf("%+v", o)
	}
}

func TestUnmountThatFails(t *testing.T) {
	f := newFake(t.TempDir())
	close(f.idle)
	f.busy = []error{errors.New("no such device")}
	ended, ready, stop := mounting(t, f, time.Hour)
	ready()
	stop()
	if o := <-ended; o.code != exitError || !strings.Contains(o.stderr, "rbdbackupfs: no such device\n") {
		t.Errorf("%+v", o)
	}
}

func TestIndexThatCannotBeClosed(t *testing.T) {
	f := newFake(t.TempDir())
	f.stuck = make(chan struct{})
	defer close(f.stuck)
	s, err := openSession(t.Context(), fakeRepo{f}, libraryOptions{Index: t.TempDir()}, daemon.Owner{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Millisecond
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), s.index) {
		t.Errorf("got %v", err)
	}
	if _, held := daemon.Holder(s.index); held {
		t.Error("the lock is still held")
	}
}
