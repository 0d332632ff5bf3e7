package repo

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leaseDir is a folder on a file system where leases tell of writers.
func leaseDir(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		fd, err := unix.Open(dir, unix.O_RDONLY, 0)
		must(t, err)
		kind := filesystemOf(fd)
		_ = unix.Close(fd)
		if kind == fsLease {
			sub, err := os.MkdirTemp(dir, "repo")
			must(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(sub) })
			return sub
		}
	}
	t.Fatal("neither the temporary folder nor /dev/shm is on a local file system")
	return ""
}

func held(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	return heldForWriting(int(f.Fd()), &st)
}

func TestHeldForWriting(t *testing.T) {
	dir := leaseDir(t)
	path := filepath.Join(dir, "a")
	put(t, dir, "a", "x")
	if held(t, path) {
		t.Error("nobody writes, and it is held")
	}
	reader, err := os.Open(path)
	must(t, err)
	defer reader.Close()
	if held(t, path) {
		t.Error("somebody reads, and it is held")
	}

	// Another process, which lives for as long as its standard input.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `exec 3>>"$1" && echo ready && read -r _`, "sh", path)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	must(t, err)
	if !held(t, path) {
		t.Error("another process has it open for writing, and it is not held")
	}
	must(t, in.Close())
	_ = cmd.Wait() // read fails at the end of its input
	if held(t, path) {
		t.Error("the writer is gone, and it is held")
	}
}

// Writers that come just while a lease is held must not fail, and the kernel's
// signal must not end this process.
func TestLeaseHarmsNobody(t *testing.T) {
	dir := leaseDir(t)
	path := filepath.Join(dir, "a")
	put(t, dir, "a", "x")
	// The signal is one that also arrives without a lease, so any is counted as
	// what it is here: proof that the process lives on.
	urgent := make(chan os.Signal, 1)
	signal.Notify(urgent, unix.SIGIO)
	defer signal.Stop(urgent)

	var over atomic.Bool
	var writer sync.WaitGroup
	var opened int
	writer.Go(func() {
		for !over.Load() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Errorf("a writer was refused: %v", err)
				return
			}
			opened++
			_ = f.Close()
		}
	})
	free, busy := 0, 0
	deadline := time.Now().Add(patience)
	for (free < 2000 || busy < 20) && time.Now().Before(deadline) {
		if held(t, path) {
			busy++
		} else {
			free++
		}
	}
	over.Store(true)
	writer.Wait()
	if free == 0 || busy == 0 || opened == 0 {
		t.Errorf("found it free %d times and held %d times, while it was opened %d times", free, busy, opened)
	}
	select {
	case s := <-urgent:
		t.Errorf("got %v: it kills programs that don't expect it", s)
	default:
	}
}

// Samba and the NFS server take write leases, and give them up when asked.
func TestOpenBreaksWriteLease(t *testing.T) {
	dir := leaseDir(t)
	put(t, dir, "a", "x")
	r := open(t, dir, Options{})
	pin := pinNow(t, filepath.Join(dir, "a"))
	f, err := os.OpenFile(filepath.Join(dir, "a"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGUSR1)
	defer signal.Stop(asked)
	fd := f.Fd()
	_, err = unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGUSR1))
	must(t, err)
	_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_WRLCK)
	must(t, err)

	opened := make(chan error, 1)
	go func() {
		h, err := r.OpenFile("a", pin)
		if err == nil {
			h.Release()
		}
		opened <- err
	}()
	<-asked
	_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	must(t, err)
	if err := <-opened; err != nil {
		t.Errorf("OpenFile: %v", err)
	}
}

func BenchmarkHeldForWriting(b *testing.B) {
	dir := b.TempDir()
	put(b, dir, "a", "x")
	dirfd, err := unix.Open(dir, unix.O_PATH, 0)
	must(b, err)
	defer func() { _ = unix.Close(dirfd) }()
	for b.Loop() {
		fd, st, err := openRegular(dirfd, "a")
		must(b, err)
		if heldForWriting(fd, &st) {
			b.Fatal("held")
		}
		_ = unix.Close(fd)
	}
}
