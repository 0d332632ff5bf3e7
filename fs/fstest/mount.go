package fstest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/fs"
	"rbdbackupfs/internal/testenv"
)

// A Mount is a mounted library.
type Mount struct {
	*fs.Server
	Path string // the mountpoint
	Log  *Log
	Lib  *Library

	importer fs.Importer
}

// Images returns the path of an entry below images/.
func (m *Mount) Images(elems ...string) string {
	return filepath.Join(append([]string{m.Path, "images"}, elems...)...)
}

// Import returns the path of an entry below import/.
func (m *Mount) Import(elems ...string) string {
	return filepath.Join(append([]string{m.Path, "import"}, elems...)...)
}

// NewMount mounts lib on a new folder for the length of the test. At its end it
// is unmounted, and the test fails if that is not possible, if a descriptor, a
// view, an import or a goroutine is left, or if a warning was logged that the
// test didn't take out of the log.
func NewMount(t testing.TB, lib *Library, options fs.Options) *Mount {
	t.Helper()
	testenv.Need(t, "fuse")
	path := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &Mount{Path: path, Log: &Log{}, Lib: lib, importer: options.Importer}
	options.Logger = slog.New(m.Log)
	if options.FsName == "" {
		options.FsName = "/backup"
	}
	server, err := fs.Mount(path, lib, options)
	if err != nil {
		t.Fatal(err)
	}
	m.Server = server
	t.Cleanup(func() { m.end(t) })
	return m
}

// end unmounts and looks for what is left.
func (m *Mount) end(t testing.TB) {
	t.Helper()
	if err := m.Unmount(); err != nil {
		t.Errorf("at the end of the test: %v", err)
		if err := Detach(m.Path); err != nil {
			t.Errorf("lazy unmount: %v", err)
		}
		return
	}
	for _, mount := range mounts(t) {
		if mount.Mountpoint == m.Path {
			t.Errorf("%s is still mounted", m.Path)
		}
	}
	if n := m.Lib.OpenViews(); n != 0 {
		t.Errorf("%d views are still open", n)
	}
	if importer, fake := m.importer.(*Importer); fake {
		if err := importer.left(); err != nil {
			t.Error(err)
		}
	}
	if left := descriptors(m.Path); len(left) > 0 {
		t.Errorf("descriptors are left: %q", left)
	}
	if left := goroutines(); len(left) > 0 {
		t.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
	}
	for _, line := range m.Log.Take("") {
		t.Errorf("logged: %s", line)
	}
}

// Detach takes a mount away by force, as umount -l does.
func Detach(path string) error {
	if os.Geteuid() == 0 {
		return syscall.Unmount(path, syscall.MNT_DETACH)
	}
	return exec.CommandContext(context.Background(), "fusermount3", "-u", "-z", path).Run()
}

func mounts(t testing.TB) []fs.MountedRepo {
	t.Helper()
	list, err := fs.Mounted()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// descriptors returns what this process has open of FUSE or below path.
func descriptors(path string) []string {
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return nil
	}
	var left []string
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && (target == "/dev/fuse" || target == path || strings.HasPrefix(target, path+"/")) {
			left = append(left, target)
		}
	}
	return left
}

// goroutines returns those that are still in code of a mount. One that is just
// ending gets the time for it.
func goroutines() []string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left := slices.DeleteFunc(stacks, func(stack string) bool {
			return !strings.Contains(stack, "hanwen/go-fuse") && !strings.Contains(stack, "rbdbackupfs/fs.(*") ||
				strings.Contains(stack, "fstest.(*Mount).end")
		})
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
	}
}

// A Log keeps what is logged at level Info and above.
type Log struct {
	mu    sync.Mutex
	lines []entry
}

type entry struct {
	level slog.Level
	text  string
}

// Enabled implements slog.Handler.
func (l *Log) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (l *Log) Handle(_ context.Context, record slog.Record) error {
	var b strings.Builder
	b.WriteString(record.Level.String() + " " + record.Message)
	record.Attrs(func(attr slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", attr.Key, attr.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, entry{record.Level, b.String()})
	return nil
}

// WithAttrs implements slog.Handler; nothing here uses it.
func (l *Log) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler; nothing here uses it.
func (l *Log) WithGroup(string) slog.Handler { return l }

// Take removes the lines that contain text and returns them. With an empty text
// it takes warnings and errors.
func (l *Log) Take(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []string
	l.lines = slices.DeleteFunc(l.lines, func(e entry) bool {
		take := text != "" && strings.Contains(e.text, text) || text == "" && e.level >= slog.LevelWarn
		if take {
			taken = append(taken, e.text)
		}
		return take
	})
	return taken
}
