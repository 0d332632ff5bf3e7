package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childVar makes this test binary a background process.
const childVar = "DAEMON_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childVar); what != "" {
		os.Exit(child(what))
	}
	os.Exit(m.Run())
}

// child is what runs in the background.
func child(what string) int {
	parent, err := OpenParent(ReadyFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 9
	}
	switch what {
	case "ready":
		fmt.Println("hello")
		fmt.Fprintf(os.Stderr, "session leader %v\n", sessionLeader())
		if err := parent.Ready(); err != nil {
			return 9
		}
		fmt.Println("nobody reads this")
		// The end of stdin, which is /dev/null by now.
		_, _ = os.Stdin.Read(make([]byte, 1))
		return 0
	case "fail":
		fmt.Fprintln(os.Stderr, "no such repository")
		return 3
	case "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "wait":
		term := make(chan os.Signal, 1)
		signal.Notify(term, unix.SIGTERM)
		fmt.Println("waiting")
		<-term
		fmt.Fprintln(os.Stderr, "undone")
		return 1
	}
	return 9
}

func sessionLeader() bool {
	sid, err := unix.Getsid(0)
	return err == nil && sid == os.Getpid()
}

func background(t *testing.T, ctx context.Context, what string, stdout *notifyingBuffer) (int, string, error) {
	t.Helper()
	t.Setenv(childVar, what)
	var stderr bytes.Buffer
	code, err := Background(ctx, Command{Path: "/proc/self/exe", Args: []string{"child"}, Stdout: stdout, Stderr: &stderr})
	return code, stderr.String(), err
}

// A notifyingBuffer calls back at its first byte.
type notifyingBuffer struct {
	text  strings.Builder
	first func()
}

func (b *notifyingBuffer) String() string { return b.text.String() }

func (b *notifyingBuffer) Write(p []byte) (int, error) {
	if b.first != nil && b.text.Len() == 0 {
		b.first()
	}
	return b.text.Write(p)
}

func TestBackgroundReady(t *testing.T) {
	var stdout notifyingBuffer
	code, stderr, err := background(t, t.Context(), "ready", &stdout)
	if code != 0 || err != nil || stdout.String() != "hello\n" || stderr != "session leader true\n" {
		t.Errorf("code %d, %v, stdout %q, stderr %q", code, err, stdout.String(), stderr)
	}
}

func TestBackgroundFails(t *testing.T) {
	var stdout notifyingBuffer
	code, stderr, err := background(t, t.Context(), "fail", &stdout)
	if code != 3 || err != nil || stderr != "no such repository\n" {
		t.Errorf("code %d, %v, stderr %q", code, err, stderr)
	}
	code, _, err = background(t, t.Context(), "kill", &stdout)
	if code != 1 || err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("killed: code %d, %v", code, err)
	}
}

func TestInterruptedParentEndsTheChild(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stdout := notifyingBuffer{first: cancel}
	code, stderr, err := background(t, ctx, "wait", &stdout)
	if code != 1 || err != nil || stderr != "undone\n" {
		t.Errorf("code %d, %v, stderr %q: the child was not waited for", code, err, stderr)
	}
}

func TestKilledParentIsNoticed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	parent, err := OpenParent(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer parent.pipe.Close()
	select {
	case <-parent.Gone():
		t.Error("gone while it reads")
	default:
	}
	r.Close()
	<-parent.Gone()
}

func TestNoParent(t *testing.T) {
	if _, err := OpenParent(1 << 20); err == nil {
		t.Error("a descriptor that isn't open was taken for a parent")
	}
}

func TestNotify(t *testing.T) {
	if err := Notify("", NotifyReady); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@rbdbackupfs-notify-%d", os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := Notify(name, NotifyReady); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		message := make([]byte, 100)
		n, err := conn.Read(message)
		if string(message[:n]) != "READY=1" || err != nil {
			t.Errorf("%s: got %q, %v", name, message[:n], err)
		}
		conn.Close()
	}
	if err := Notify(filepath.Join(t.TempDir(), "none"), NotifyReady); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func TestLogFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := OpenLogFile(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	record := func(i int) string { return fmt.Sprintf("%039d\n", i) }
	for i := range 5 {
		if _, err := log.Write([]byte(record(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	assertFile(t, path+".1", record(2)+record(3))
	assertFile(t, path, record(4))

	// Opened again it goes on where it was; without a limit it only grows.
	if log, err = OpenLogFile(path, 0); err != nil {
		t.Fatal(err)
	}
	for i := 5; i < 9; i++ {
		if _, err := log.Write([]byte(record(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	assertFile(t, path, record(4)+record(5)+record(6)+record(7)+record(8))
}

func TestLogFileThatCannotBeOpened(t *testing.T) {
	_, err := OpenLogFile(filepath.Join(t.TempDir(), "no", "log"), 0)
	var typed *Error
	if !errors.As(err, &typed) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(typed.Hint, "--log-file") {
		t.Errorf("got %v", err)
	}
}

func assertFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", filepath.Base(path), got, err, want)
	}
}
