package fs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// blocked is an Importer whose jobs wait for the test.
func blockedMount(t testing.TB) (*fstest.Mount, *fstest.Importer, chan struct{}) {
	t.Helper()
	m, importer := importMount(t, rbdfs.Options{})
	block := make(chan struct{})
	importer.Script(func(job *fstest.Job) { job.Block = block })
	return m, importer, block
}

// ended waits for a command, and reports how long that took.
func ended(t testing.TB, cmd *exec.Cmd) (time.Duration, error) {
	t.Helper()
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return time.Since(begin), err
	case <-time.After(30 * time.Second):
		t.Fatalf("%v doesn't end", cmd.Args)
		return 0, nil
	}
}

// A program that hangs in a write, a copy_file_range or a close ends at once when
// it is killed, by whatever signal, and what it wrote isn't committed.
func TestImportKill(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m, importer, block := blockedMount(t)
	tests := map[string]struct {
		args   []string
		signal syscall.Signal
		pass   int  // how often it gets on before it hangs
		closed bool // it was closing the file already
	}{
		"write, KILL":   {[]string{"cp", "--reflink=never", source}, syscall.SIGKILL, 2, false},
		"write, TERM":   {[]string{"cp", source}, syscall.SIGTERM, 1, false},
		"write, INT":    {[]string{"cp", source}, syscall.SIGINT, 0, false},
		"write, QUIT":   {[]string{"cp", source}, syscall.SIGQUIT, 1, false},
		"close, KILL":   {[]string{"cp", source}, syscall.SIGKILL, 3, true},
		"range, KILL":   {[]string{"cp", "--sparse=never", m.Images("rbd/vm1/v1.img")}, syscall.SIGKILL, 0, false},
		"threads, KILL": {nil, syscall.SIGKILL, 2, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := m.Import("rbd/x")
			cmd := writerCommand(t, "leave", path)
			if test.args != nil {
				cmd = exec.Command(test.args[0], append(test.args[1:], path)...)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			job := <-importer.Started()
			for range test.pass {
				<-job.Waiting
				block <- struct{}{}
			}
			<-job.Waiting
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			took, err := ended(t, cmd)
			if took > time.Second || err == nil || !strings.HasPrefix(err.Error(), "signal: ") {
				t.Errorf("after %v: %v", took, err)
			}
			<-job.Released
			killed, _ := job.Flushes()
			if len(killed) == 0 || killed[len(killed)-1] == test.closed {
				t.Errorf("flushes: killed %v", killed)
			}
		})
	}
}

// Signals that don't end a program don't end what it waits for, in a write or in
// a close, however long that takes.
func TestImportSurvivesSignals(t *testing.T) {
	m, importer, block := blockedMount(t)
	cmd := writerCommand(t, "urgent", m.Import("rbd/x"))
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	job := <-importer.Started()
	const calls = writerBytes/(1<<20) + 1 // and the close
	for i := range calls {
		<-job.Waiting
		if i == 1 || i == calls-1 {
			// Longer than it takes to take a live caller for a dead one.
			wait, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			<-wait.Done()
			cancel()
		}
		select {
		case block <- struct{}{}:
		case <-job.Released:
			t.Fatalf("it ended in call %d: %s", i, out.String())
		}
	}
	if _, err := ended(t, cmd); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
	<-job.Released
	if killed, _ := job.Flushes(); len(killed) != 1 || killed[0] || len(job.Bytes()) != writerBytes {
		t.Errorf("%d bytes, flushes: killed %v", len(job.Bytes()), killed)
	}
}

// A program with many threads that ends without a close has its files closed by
// any of them. That thread was killed; the program wasn't.
func TestImportExitWithoutClose(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	for i := range 20 {
		mode := []string{"leave", "leave, failing"}[i%2]
		out, err := writerCommand(t, mode, m.Import("rbd/x")).CombinedOutput()
		if (err != nil) != (mode == "leave, failing") {
			t.Fatalf("%v, %s", err, out)
		}
		job := importer.Last()
		<-job.Released
		if killed, _ := job.Flushes(); len(killed) != 1 || killed[0] {
			t.Errorf("flushes: killed %v", killed)
		}
	}
}

// A file that is open in a process that runs another program is closed there,
// under a lock of the kernel's.
func TestImportCloseOnExec(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	f, err := os.Create(m.Import("rbd/x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("before"); err != nil {
		t.Error(err)
	}
	for range 5 {
		run(t, "true")
	}
	closeFile(t, f)
	<-importer.Last().Released
	if killed, _ := importer.Last().Flushes(); len(killed) < 1 || killed[len(killed)-1] {
		t.Errorf("flushes: killed %v", killed)
	}
}

// Where the connection is aborted, calls into the Importer end though their
// callers live on.
func TestImportAborted(t *testing.T) {
	testenv.Need(t, "root")
	m, importer, _ := blockedMount(t)
	cmd := exec.Command("sh", "-c", `dd status=none if=/dev/zero of="$1" bs=1M count=2; read x`, "sh", m.Import("rbd/x"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	job := <-importer.Started()
	<-job.Waiting
	if err := syscall.Unmount(m.Path, syscall.MNT_FORCE); err != nil && !errors.Is(err, syscall.EBUSY) {
		t.Fatal(err)
	}
	<-job.Released
	<-m.Done()
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ended(t, cmd); err == nil {
		t.Error("the shell had input")
	}
	if err := fstest.Detach(m.Path); err != nil && !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

// A mount that is taken away while a file is open releases it at its end.
func TestImportDetached(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	f, err := os.Create(m.Import("rbd/x"))
	if err != nil {
		t.Fatal(err)
	}
	var busy *rbdfs.Error
	if err := m.Unmount(); !errors.As(err, &busy) || !errors.Is(err, rbdfs.ErrBusy) ||
		!strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), m.Import("rbd/x")) {
		t.Errorf("unmount: %v", err)
	}
	if err := fstest.Detach(m.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("still there"); err != nil {
		t.Error(err)
	}
	closeFile(t, f)
	<-importer.Last().Released
	if got := string(importer.Last().Bytes()); got != "still there" {
		t.Errorf("%q", got)
	}
	m.Wait()
}
