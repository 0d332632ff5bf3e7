package repo

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

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
			sub := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+strconv.Itoa(os.Getpid()))
			must(t, os.Mkdir(sub, 0o700))
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

// A writer that comes just while a lease is held waits for it, and the kernel's
// signal about that is not the one that ends programs.
func TestLeaseHarmsNobody(t *testing.T) {
	dir := leaseDir(t)
	path := filepath.Join(dir, "a")
	put(t, dir, "a", "x")
	deadly := make(chan os.Signal, 1)
	signal.Notify(deadly, unix.SIGIO)
	defer signal.Stop(deadly)
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	must(t, err)
	defer func() { _ = unix.Close(fd) }()

	must(t, takeLease(fd))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `echo more >>"$1"`, "sh", path)
	must(t, cmd.Start())
	for { // until the kernel is taking the lease away
		kind, err := unix.FcntlInt(uintptr(fd), unix.F_GETLEASE, 0)
		must(t, err)
		if kind != unix.F_RDLCK {
			break
		}
		runtime.Gosched()
	}
	giveBackLease(fd)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the writer: %v", err)
	}
	if got, err := os.ReadFile(path); string(got) != "xmore\n" {
		t.Errorf("the file is %q, %v", got, err)
	}
	select {
	case s := <-deadly:
		t.Errorf("got %v", s)
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
