package copyout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/guestfs"
	"rbdbackupfs/internal/testenv"
)

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	program, err := testenv.Program(name)
	must(t, err)
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A guest is a file system that is made of a folder, and may be tampered with.
type guest struct {
	t   *testing.T
	dir string
}

func newGuest(t *testing.T) *guest {
	testenv.Need(t, "ext4")
	return &guest{t, t.TempDir()}
}

func (g *guest) write(name, text string, mode os.FileMode) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	must(g.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(g.t, os.WriteFile(path, []byte(text), 0o600))
	must(g.t, os.Chmod(path, mode))
}

// root is the topmost folder, after every old was made a new one of the same length.
func (g *guest) root(commands []string, oldNew ...string) *guestfs.File {
	g.t.Helper()
	image := filepath.Join(g.t.TempDir(), "image")
	tool(g.t, "mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", "-d", g.dir, image, "16M")
	for _, command := range commands {
		tool(g.t, "debugfs", "-w", "-R", command, image)
	}
	data, err := os.ReadFile(image)
	must(g.t, err)
	for i := 0; i < len(oldNew); i += 2 {
		if !bytes.Contains(data, []byte(oldNew[i])) {
			g.t.Fatalf("there is no %q in the image", oldNew[i])
		}
		data = bytes.ReplaceAll(data, []byte(oldNew[i]), []byte(oldNew[i+1]))
	}
	s, err := guestfs.Open(bytes.NewReader(data), int64(len(data)))
	must(g.t, err)
	root, err := s.Root()
	must(g.t, err)
	return root
}

// A log is what a copy says.
type log struct{ lines []string }

func (l *log) options() Options {
	return Options{
		Owners:   os.Geteuid() == 0,
		Left:     func(err error) { l.lines = append(l.lines, err.Error()) },
		Progress: func(int64, int64, string) {},
	}
}

// tree is what a folder holds: a line for each file.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		must(t, err)
		info, err := os.Lstat(path)
		must(t, err)
		name, err := filepath.Rel(dir, path)
		must(t, err)
		fmt.Fprintf(&b, "%s %s", info.Mode(), name)
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			must(t, err)
			b.WriteString(" -> " + target)
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			must(t, err)
			fmt.Fprintf(&b, " %.40q %d links", text, info.Sys().(*syscall.Stat_t).Nlink)
		}
		fmt.Fprintf(&b, " %s\n", info.ModTime().UTC().Format(time.DateTime))
		return nil
	}))
	return b.String()
}

func TestCopyIsTheSame(t *testing.T) {
	g := newGuest(t)
	g.write("etc/hosts", "127.0.0.1\n", 0o644)
	g.write("etc/shadow", "secret", 0)
	g.write("home/anna/.profile", "", 0o600)
	g.write("read/only", "x", 0o444)
	must(t, os.Link(filepath.Join(g.dir, "etc/hosts"), filepath.Join(g.dir, "home/hosts")))
	must(t, os.Symlink("/etc/hosts", filepath.Join(g.dir, "home/link")))
	must(t, os.Symlink("dangling", filepath.Join(g.dir, "dangling")))
	must(t, os.Chmod(filepath.Join(g.dir, "read"), 0o555))
	when := time.Unix(1_600_000_000, 0)
	for _, name := range []string{"etc/hosts", "read", "home/anna", "etc"} {
		must(t, os.Chtimes(filepath.Join(g.dir, name), when, when))
	}
	var l log
	dest := filepath.Join(t.TempDir(), "copy")
	result, err := Copy(t.Context(), g.root(nil), dest, l.options())
	must(t, err)
	must(t, os.Remove(filepath.Join(dest, "lost+found")))
	got, want := tree(t, dest), tree(t, g.dir)
	// The roots changed when something was made or removed in them.
	_, got, _ = strings.Cut(got, "\n")
	_, want, _ = strings.Cut(want, "\n")
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if fmt.Sprint(result) != "{4 6 3 17 0 0 0}" || l.lines != nil {
		t.Errorf("%+v %q", result, l.lines)
	}
}

func TestHolesStayHoles(t *testing.T) {
	g := newGuest(t)
	g.write("sparse", "begin", 0o600)
	must(t, os.Truncate(filepath.Join(g.dir, "sparse"), 1<<30))
	root := g.root(nil)
	dest := filepath.Join(t.TempDir(), "copy")
	_, err := Copy(t.Context(), root, dest, (&log{}).options())
	must(t, err)
	info, err := os.Stat(filepath.Join(dest, "sparse"))
	must(t, err)
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; info.Size() != 1<<30 || blocks > 1024 {
		t.Errorf("%d bytes in %d blocks", info.Size(), blocks)
	}
}

// What a guest must not be trusted with.
func TestHostileNames(t *testing.T) {
	g := newGuest(t)
	outside := t.TempDir()
	g.write("up/AAAAAAA", "climbs", 0o644)
	g.write("good/file", "good", 0o644)
	g.write("good/suid", "program", 0o755|os.ModeSetuid)
	// A link, and a file and a folder of the same name behind it.
	must(t, os.MkdirAll(filepath.Join(g.dir, "twice/name3"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(g.dir, "twice/name1")))
	g.write("twice/name2", "through", 0o644)
	g.write("twice/name3/file", "through", 0o644)
	must(t, syscall.Mkfifo(filepath.Join(g.dir, "pipe"), 0o600))
	root := g.root([]string{"link good good/circle"},
		"AAAAAAA", "../evil", "name2", "name1", "name3", "name1")
	var l log
	base := t.TempDir()
	dest := filepath.Join(base, "copy")
	result, err := Copy(t.Context(), root, dest, l.options())
	must(t, err)
	if list, err := os.ReadDir(outside); len(list) > 0 || err != nil {
		t.Errorf("outside: %v %v", list, err)
	}
	if list, err := os.ReadDir(base); len(list) != 1 || err != nil {
		t.Errorf("beside the copy: %v %v", list, err)
	}
	var names []string
	for line := range strings.Lines(tree(t, dest)) {
		names = append(names, strings.Join(strings.Fields(line)[:2], " "))
	}
	want := []string{
		"drwxr-xr-x .", "drwxr-xr-x good", "-rw-r--r-- good/file", "-rwxr-xr-x good/suid", "drwx------ lost+found",
		"drwxr-xr-x twice", "Lrwxrwxrwx twice/name1", "drwxr-xr-x up",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
	if result.Failed != 4 || result.Skipped != 1 || result.Stripped != 1 {
		t.Errorf("%+v\n%s", result, strings.Join(l.lines, "\n"))
	}
}

// A copy that ends in the middle leaves no part of a file.
func TestInterrupted(t *testing.T) {
	g := newGuest(t)
	g.write("a", "first", 0o644)
	g.write("b", strings.Repeat("second", 600_000), 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	o := (&log{}).options()
	o.Progress = func(_, _ int64, path string) {
		if path == "/b" {
			cancel()
		}
	}
	dest := filepath.Join(t.TempDir(), "copy")
	result, err := Copy(ctx, g.root(nil), dest, o)
	if !errors.Is(err, context.Canceled) || result.Files != 1 || result.Bytes != 5 {
		t.Errorf("%+v %v", result, err)
	}
	list, err := os.ReadDir(dest)
	must(t, err)
	if len(list) != 1 || list[0].Name() != "a" {
		t.Errorf("%v is left", list)
	}
}

func TestFullDisk(t *testing.T) {
	testenv.Need(t, "root")
	g := newGuest(t)
	g.write("a", "first", 0o644)
	g.write("b", strings.Repeat("second", 600_000), 0o644)
	small := t.TempDir()
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=1m"))
	defer func() { must(t, syscall.Unmount(small, 0)) }()
	dest := filepath.Join(small, "copy")
	_, err := Copy(t.Context(), g.root(nil), dest, (&log{}).options())
	if want := "writing " + dest + "/b: no space left on device"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := os.Lstat(filepath.Join(dest, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part is left: %v", err)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	g := newGuest(t)
	g.write("file", "guest", 0o644)
	root := g.root(nil)
	entries, err := root.Entries()
	must(t, err)
	file, err := entries[0].Open()
	must(t, err)
	dest := filepath.Join(t.TempDir(), "dest")
	must(t, os.MkdirAll(dest, 0o755))
	must(t, os.WriteFile(filepath.Join(dest, "file"), []byte("host"), 0o600))
	if _, err := Copy(t.Context(), root, dest, (&log{}).options()); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Errorf("a folder: %v", err)
	}
	result, err := Copy(t.Context(), file, filepath.Join(dest, "file"), (&log{}).options())
	if result.Failed != 1 || err != nil {
		t.Errorf("a file: %+v %v", result, err)
	}
	text, err := os.ReadFile(filepath.Join(dest, "file"))
	must(t, err)
	if string(text) != "host" {
		t.Errorf("it is %q now", text)
	}
}
