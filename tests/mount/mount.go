package mount

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/internal/treename"
)

// exitLimit is how long the process of a mount may take to end after the umount.
const exitLimit = 30 * time.Second

// Options change what Start does. The zero value is what most tests want.
type Options struct {
	// Flags are added to the mount command.
	Flags []string
	// NoWait leaves out --wait: the tree is usable, and not yet complete.
	NoWait bool
	// Changing says that the test changes the repository, so that it isn't
	// compared with what it was.
	Changing bool
	// Expected are texts; a warning or error in the log with one of them in its
	// line is no failure.
	Expected []string
}

// A Mount is a mounted repository.
type Mount struct {
	Repo   string // the repository, absolute
	Dir    string // the mountpoint
	Index  string // the index folder
	Log    string // the log file, one JSON object a line
	Output string // what the mount command said
	PID    int    // of the process that serves it

	t       testing.TB
	o       Options
	before  map[string]fileState
	races   string // prefix of the race detector's reports
	process int    // pidfd
	stopped bool
}

// Start mounts a repository below a new temporary folder, and unmounts it at the
// end of the test.
func Start(t testing.TB, repo string, options ...Options) *Mount {
	t.Helper()
	testenv.Need(t, "fuse")
	repo, err := filepath.Abs(repo)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m := &Mount{
		Repo: repo, Dir: filepath.Join(dir, "mnt"), Index: filepath.Join(dir, "index"),
		Log: filepath.Join(dir, "log"), t: t, before: fileStates(t, repo), races: filepath.Join(dir, "race"),
	}
	if len(options) > 0 {
		m.o = options[0]
	}
	if err := os.Mkdir(m.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.mount()
	return m
}

func (m *Mount) mount() {
	m.t.Helper()
	args := []string{"mount", m.Repo, m.Dir, "--index", m.Index, "--log-file", m.Log, "--log-format", "json"}
	if !m.o.NoWait {
		args = append(args, "--wait")
	}
	// Registered first: whatever goes wrong from here on, nothing stays mounted.
	m.t.Cleanup(m.Stop)
	env := []string{"GORACE=halt_on_error=0 log_path=" + m.races}
	result := run(m.t, Binary(m.t), env, append(args, m.o.Flags...))
	if result.Code != 0 {
		m.t.Fatalf("%v\n%s", result, m.log())
	}
	m.Output = result.Stdout
	m.PID = m.Status().Daemon.PID
	fd, err := unix.PidfdOpen(m.PID, 0)
	if err != nil {
		m.t.Fatalf("pid %d of status.json: %v", m.PID, err)
	}
	m.process = fd
}

// Image returns the path of a snapshot's file.
func (m *Mount) Image(image, snapshot string) string {
	return filepath.Join(m.Folder(image), treename.ImageFile(snapshot, ""))
}

// Folder returns the path of an image's folder.
func (m *Mount) Folder(image string) string {
	path := filepath.Join(m.Dir, "images")
	for component := range strings.SplitSeq(image, "/") {
		path = filepath.Join(path, treename.EncodeComponent(component))
	}
	return path
}

// Import returns a path below import/.
func (m *Mount) Import(parts ...string) string {
	return filepath.Join(append([]string{m.Dir, "import"}, parts...)...)
}

// Kill ends the process without a chance to do anything, and takes away the dead
// mount that it leaves.
func (m *Mount) Kill() {
	m.t.Helper()
	if err := unix.PidfdSendSignal(m.process, unix.SIGKILL, nil, 0); err != nil {
		m.t.Fatal(err)
	}
	m.assertExited()
	m.process = 0
	if err := unix.Unmount(m.Dir, unix.MNT_DETACH); err != nil {
		m.t.Fatal(err)
	}
}

// Again mounts once more, with the same index, after Kill or an umount.
func (m *Mount) Again() {
	m.t.Helper()
	m.stopped = false
	m.mount()
}

// Status reads status.json.
func (m *Mount) Status() Status {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "status.json"))
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.log())
	}
	var s Status
	if err := json.Unmarshal(text, &s); err != nil {
		m.t.Fatalf("status.json: %v in %s", err, text)
	}
	return s
}

// Stop unmounts and asserts that nothing is left. Calling it again does nothing.
func (m *Mount) Stop() {
	m.t.Helper()
	if m.stopped {
		return
	}
	m.stopped = true
	if mounted(m.t, m.Dir) {
		if r := Run(m.t, "umount", m.Dir); r.Code != 0 {
			m.t.Errorf("%v\n%s", r, m.diagnose())
			_ = unix.Unmount(m.Dir, unix.MNT_DETACH)
		}
	}
	if mounted(m.t, m.Dir) {
		m.t.Errorf("%s is still mounted", m.Dir)
	}
	m.assertExited()
	m.assertQuiet()
	if !m.o.Changing {
		assertSame(m.t, m.before, fileStates(m.t, m.Repo))
	}
}

// assertExited waits for the end of the process.
func (m *Mount) assertExited() {
	m.t.Helper()
	if m.process == 0 {
		return
	}
	defer func() { _ = unix.Close(m.process) }()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(m.process), Events: unix.POLLIN}}, int(exitLimit.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			m.t.Errorf("process %d still runs %v after the umount: %v\n%s", m.PID, exitLimit, err, m.diagnose())
			_ = unix.PidfdSendSignal(m.process, unix.SIGKILL, nil, 0)
		}
		return
	}
}

// diagnose says what may keep a mount from ending: what its threads wait for,
// which mount namespaces and loop devices still have it, and the log.
func (m *Mount) diagnose() string {
	var out strings.Builder
	waits, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", m.PID))
	for _, path := range waits {
		where, _ := os.ReadFile(path)
		fmt.Fprintf(&out, "%s: %s\n", path, where)
	}
	mounts, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, path := range mounts {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), m.Dir) {
			fmt.Fprintf(&out, "still in %s\n", path)
		}
	}
	devices, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range devices {
		file, _ := os.ReadFile(path)
		fmt.Fprintf(&out, "%s: %s", path, file)
	}
	return out.String() + m.log()
}

// assertQuiet fails the test for every warning and error in the log, and for
// what the race detector found.
func (m *Mount) assertQuiet() {
	m.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(m.log()))
	for lines.Scan() {
		var entry struct {
			Level string `json:"level"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			m.t.Errorf("log line is no JSON: %s", lines.Bytes())
			continue
		}
		if (entry.Level == "WARN" || entry.Level == "ERROR") && !m.expected(lines.Text()) {
			m.t.Errorf("logged: %s", lines.Text())
		}
	}
	reports, err := filepath.Glob(m.races + ".*")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range reports {
		report, _ := os.ReadFile(path)
		m.t.Errorf("%s: %s", path, report)
	}
}

func (m *Mount) expected(line string) bool {
	for _, text := range m.o.Expected {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

func (m *Mount) log() string {
	text, err := os.ReadFile(m.Log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// mounted tells whether something is mounted at the folder.
func mounted(t testing.TB, dir string) bool {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(mounts) {
		if fields := bytes.Fields(line); len(fields) > 4 && string(fields[4]) == dir {
			return true
		}
	}
	return false
}
