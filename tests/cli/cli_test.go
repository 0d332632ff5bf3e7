package cli

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/mount"
)

var rewrite = flag.Bool("rewrite", false, "write what is printed into the golden files")

func TestMain(m *testing.M) { os.Exit(mount.Main(m)) }

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func TestMountScripts(t *testing.T) {
	testenv.Need(t, "fuse")
	runScripts(t, "testdata/fuse")
}

// TestFilesScripts looks into images that it makes.
func TestFilesScripts(t *testing.T) {
	testenv.Need(t, "ext4", "fat", "mtools", "partitions")
	runScripts(t, "testdata/files")
}

func runScripts(t *testing.T, dir string) {
	dependOnSources(t)
	bin := t.TempDir()
	if err := os.Symlink(mount.Binary(t), filepath.Join(bin, "rbdbackupfs")); err != nil {
		t.Fatal(err)
	}
	// What /etc/fstab runs.
	if err := os.Symlink(mount.Binary(t), filepath.Join(bin, "mount.rbdbackupfs")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Cmds:                commands(),
		UpdateScripts:       *rewrite,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Short, and free of symbolic links: it appears in golden files.
			work, err := filepath.EvalSymlinks(env.WorkDir)
			if err != nil {
				return err
			}
			env.Setenv("WORK", work)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("TZ", "UTC")
			env.Setenv("HOME", work)
			env.Setenv("XDG_STATE_HOME", filepath.Join(work, "state"))
			env.Values[socketKey{}] = &notifySocket{}
			env.Values[heldKey{}] = &heldFiles{}
			env.Defer(func() { assertUnmounted(t, work) })
			return nil
		},
	})
}

// dependOnSources looks at the program's sources: the go command, which doesn't
// know that this test builds it, then doesn't take an older result for today's.
func dependOnSources(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// assertUnmounted leaves nothing mounted behind, and takes it for a failure
// when there is something.
func assertUnmounted(t *testing.T, work string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
		return
	}
	var left []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], work+"/") {
			left = append(left, fields[4])
		}
	}
	slices.Reverse(left)
	for _, mountpoint := range left {
		t.Errorf("%s is still mounted", mountpoint)
		if err := unix.Unmount(mountpoint, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}
