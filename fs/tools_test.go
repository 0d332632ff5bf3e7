package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// What people use to get at their bytes.
func TestTools(t *testing.T) {
	content := scattered()
	model := content.Bytes()
	mtime := time.Date(2023, 4, 5, 6, 7, 8, 0, time.UTC)
	lib := fstest.New().List()
	lib.Set("rbd/vm", fstest.Spec{Name: "s", Content: content, ModTime: mtime})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	image := m.Images("rbd/vm/s.img")
	same := func(t *testing.T, path string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, model) {
			t.Errorf("%s: other bytes, %v", path, err)
		}
	}
	t.Run("cp --sparse=auto", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "copy")
		run(t, "cp", "--sparse=auto", image, to)
		same(t, to)
		if st := stat(t, to); st.Blocks*512 > content.Allocated()+6*4096 {
			t.Errorf("%d blocks for %d bytes: not sparse", st.Blocks, content.Allocated())
		}
	})
	t.Run("cp -p", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "copy")
		run(t, "cp", "-p", image, to)
		same(t, to)
		if st := stat(t, to); st.Mtim.Sec != mtime.Unix() || st.Mode&0o777 != 0o440 {
			t.Errorf("mtime %v, mode %o", st.Mtim, st.Mode)
		}
	})
	t.Run("cp -a of all", func(t *testing.T) {
		to := filepath.Join(t.TempDir(), "copy")
		run(t, "cp", "-a", m.Images("rbd"), to)
		same(t, filepath.Join(to, "vm", "latest.img"))
		run(t, "chmod", "-R", "u+w", to)
	})
	t.Run("dd", func(t *testing.T) {
		for _, args := range [][]string{{"bs=1M"}, {"bs=4096", "iflag=direct"}, {"bs=777"}} {
			to := filepath.Join(t.TempDir(), "copy")
			run(t, append([]string{"dd", "status=none", "if=" + image, "of=" + to}, args...)...)
			same(t, to)
		}
	})
	t.Run("cat", func(t *testing.T) {
		if out, err := exec.Command("cat", m.Images("rbd/vm/latest.img")).Output(); err != nil || !bytes.Equal(out, model) {
			t.Errorf("other bytes, %v", err)
		}
	})
	t.Run("stat", func(t *testing.T) {
		want := "9441505 6284 1048576 regular file 440\n"
		if got := run(t, "stat", "-c", "%s %b %o %F %a", image); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("du", func(t *testing.T) {
		if got := run(t, "du", "-k", image); !strings.HasPrefix(got, "3142\t") {
			t.Errorf("%q", got)
		}
	})
	t.Run("find", func(t *testing.T) {
		if got := run(t, "find", m.Path, "-type", "f"); strings.Count(got, "\n") != 2 {
			t.Errorf("%q", got)
		}
	})
	t.Run("ls", func(t *testing.T) {
		got := run(t, "ls", "-la", m.Images("rbd/vm"))
		if strings.Count(got, "\n") != 5 || !strings.Contains(got, "latest.img -> s.img") {
			t.Errorf("%s", got)
		}
	})
	t.Run("getfattr", func(t *testing.T) {
		testenv.Need(t, "attr")
		got := run(t, "getfattr", "--absolute-names", "-d", image)
		if !strings.Contains(got, `user.rbdbackupfs.image="rbd/vm"`) {
			t.Errorf("%s", got)
		}
	})
	t.Run("rsync", func(t *testing.T) {
		testenv.Need(t, "rsync")
		to := filepath.Join(t.TempDir(), "copy")
		run(t, "rsync", "-a", "--sparse", image, to)
		same(t, to)
	})
}

// rm -rf reaches nothing.
func TestRemoveAll(t *testing.T) {
	lib := small()
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	before := run(t, "find", m.Path)
	out, err := exec.Command("sh", "-c", `rm -rf "$1" "$1"/*`, "sh", m.Path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Read-only file system") {
		t.Errorf("rm: %v, %.300s", err, out)
	}
	if after := run(t, "find", m.Path); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	if got, err := os.ReadFile(m.Images("rbd/vm1/v1.img")); err != nil || string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
}

// A file system in an image can be mounted, and the device be read at full size.
func TestLoopDevice(t *testing.T) {
	testenv.Need(t, "loop", "ext4")
	m := fstest.NewMount(t, ext4Library(t), rbdfs.Options{})
	image := m.Images("vm/s.img")
	device := strings.TrimSpace(run(t, "losetup", "-r", "-f", "--show", image))
	defer func() { run(t, "losetup", "-d", device) }()
	if got := strings.TrimSpace(run(t, "blockdev", "--getsize64", device)); got != "8388608" {
		t.Errorf("%s bytes", got)
	}
	run(t, "cmp", device, image)
}
