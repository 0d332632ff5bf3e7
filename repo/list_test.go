package repo

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestListSaysWhatItLeavesAlone(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "secret/f", "secret")
	put(t, dir, "vm/full.raw", "0123")
	put(t, dir, "vm-1/0101.diff", "x")
	for _, name := range []string{
		".0102.diff.Xa81", "vm/0103.diff.partial", "vm/0104.TMP", "vm/0105.diff.filepart", "vm/0106.part",
		".snapshot/daily/vm/full.raw", "vm/.zfs/x", "#recycle/vm/full.raw", "@eaDir/x",
	} {
		put(t, dir, name, "x")
	}
	put(t, dir, "vm/particular.tmpl", "y")
	must(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	must(t, os.Symlink("full.raw", filepath.Join(dir, "vm/link")))
	must(t, os.Symlink(outside+"/secret", filepath.Join(dir, "away")))
	must(t, os.Symlink("..", filepath.Join(dir, "vm/loop")))
	must(t, unix.Mkfifo(filepath.Join(dir, "vm/fifo"), 0o644))
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	must(t, err)
	defer l.Close()

	files, problems, err := open(t, dir, Options{}).List(t.Context())
	must(t, err)
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	var got []string
	for _, f := range files {
		line := f.State.String() + " " + f.Path
		if f.State == Hidden {
			words := strings.Fields(strings.TrimPrefix(f.Why, "is "))
			line += ": " + words[0] + " " + words[1]
			if r, _ := utf8.DecodeRuneInString(f.Cure); unicode.IsLower(r) {
				t.Errorf("%s: the cure is no sentence: %s", f.Path, f.Cure)
			}
		}
		got = append(got, line)
		if f.State == Seen && f.Pin != pinNow(t, filepath.Join(dir, f.Path)) {
			t.Errorf("%s: pin %+v", f.Path, f.Pin)
		}
	}
	want := []string{
		"hidden #recycle: folders of",
		"hidden .0102.diff.Xa81: its name",
		"hidden .snapshot: folders whose",
		"hidden @eaDir: folders of",
		"hidden away: a symbolic",
		"hidden lost+found: folders of",
		"hidden sock: a socket,",
		"seen vm-1/0101.diff",
		"hidden vm/.zfs: folders whose",
		"hidden vm/0103.diff.partial: its name",
		"hidden vm/0104.TMP: its name",
		"hidden vm/0105.diff.filepart: its name",
		"hidden vm/0106.part: its name",
		"hidden vm/fifo: a named",
		"seen vm/full.raw",
		"hidden vm/link: a symbolic",
		"hidden vm/loop: a symbolic",
		"seen vm/particular.tmpl",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Permissions don't stop root, so the listing is done as somebody else.
func TestListUnreadableFolder(t *testing.T) {
	const where = "REPO_TEST_DIR"
	dir := os.Getenv(where)
	if dir == "" {
		dir = t.TempDir()
		must(t, os.Chmod(dir, 0o755))
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		put(t, dir, "open/a", "x")
		put(t, dir, "shut/b", "x")
		must(t, os.Chmod(filepath.Join(dir, "shut"), 0))
		t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "shut"), 0o755) })
	}
	if os.Geteuid() == 0 {
		nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if !asOther(t, nobody, where+"="+dir) {
			return
		}
	}
	files, problems, err := open(t, dir, Options{}).List(t.Context())
	must(t, err)
	if len(files) != 1 || files[0].Path != "open/a" {
		t.Errorf("files: %v", files)
	}
	if len(problems) != 1 || problems[0].Path != filepath.Join(dir, "shut") || problems[0].Hint == "" ||
		!errors.Is(problems[0], unix.EACCES) {
		t.Errorf("problems: %v", problems)
	}
}

func TestListOfVanishedRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	put(t, dir, "a", "x")
	r := open(t, dir, Options{})
	must(t, os.Rename(dir, dir+"2"))
	if _, _, err := r.List(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("List of a vanished root: %v, want ErrGone", err)
	}
	must(t, os.Rename(dir+"2", dir))
	if files, _, err := r.List(t.Context()); err != nil || len(files) != 1 {
		t.Errorf("List of a root that is back: %v, %v", files, err)
	}
}

func TestListEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a/b/c", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := open(t, dir, Options{}).List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestNextName(t *testing.T) {
	for _, broken := range [][]byte{nil, make([]byte, 18), make([]byte, 19), append(make([]byte, 16), 200, 0, 0)} {
		if name, rest := nextName(broken); name != "" || rest != nil {
			t.Errorf("nextName(%v) = %q, %v", broken, name, rest)
		}
	}
}
