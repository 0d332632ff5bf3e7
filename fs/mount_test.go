package fs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// wantError checks the kind of an error and that its message has these parts.
func wantError(t testing.TB, err, kind error, parts ...string) *rbdfs.Error {
	t.Helper()
	var typed *rbdfs.Error
	if !errors.As(err, &typed) || !errors.Is(err, kind) {
		t.Fatalf("%v, want an *Error that is %v", err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	return typed
}

func TestMountinfo(t *testing.T) {
	testenv.Need(t, "root")
	repo := "/srv/back up,with commas"
	m := fstest.NewMount(t, small(), rbdfs.Options{FsName: repo, Extra: []string{"ro,noexec,noatime,_netdev", "max_read=65536"}})
	got, err := rbdfs.MountedAt(m.Path)
	if err != nil || got.Repo != repo || got.Mountpoint != m.Path {
		t.Errorf("MountedAt: %+v, %v", got, err)
	}
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, m.Path) {
			continue
		}
		for _, part := range []string{
			" fuse.rbdbackupfs ro,", "nosuid", "nodev", "noexec", "noatime", "default_permissions", "allow_other", "max_read=65536",
		} {
			if !strings.Contains(line, part) {
				t.Errorf("%q is not in %s", part, line)
			}
		}
	}
	if err := os.Remove(m.Images("rbd/vm1/v1.img")); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
}

func TestReadAhead(t *testing.T) {
	testenv.Need(t, "root")
	for set, want := range map[int]string{0: "1024\n", 512: "512\n", -1: "128\n"} {
		t.Run(fmt.Sprint(set), func(t *testing.T) {
			m := fstest.NewMount(t, small(), rbdfs.Options{ReadAheadKB: set})
			dev := stat(t, m.Path).Dev
			got, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev)))
			if err != nil || string(got) != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestBadMountpoints(t *testing.T) {
	testenv.Need(t, "fuse")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, part string }{
		"missing":   {filepath.Join(dir, "missing"), "mkdir -p " + dir + "/missing"},
		"a file":    {file, "not a folder"},
		"not empty": {dir, "-o nonempty"},
		"in a file": {file + "/x", "not a directory"},
		"a loop":    {loop, "too many"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := rbdfs.Mount(test.path, small(), rbdfs.Options{})
			wantError(t, err, rbdfs.ErrMountpoint, test.part, test.path)
		})
	}
	server, err := rbdfs.Mount(dir, small(), rbdfs.Options{Extra: []string{"nonempty"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := server.Unmount(); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

func TestMountTwice(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(m.Path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{m.Path, link} {
		_, err := rbdfs.Mount(path, small(), rbdfs.Options{})
		wantError(t, err, rbdfs.ErrMountpoint, "already", "rbdbackupfs umount "+m.Path)
	}
}

// Umount of another process's mount; the process ends by itself.
func TestUmountOfAnother(t *testing.T) {
	testenv.Need(t, "fuse")
	p, err := start(t, mountpoint(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := rbdfs.Umount(p.Path); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	wantError(t, rbdfs.Umount(p.Path), rbdfs.ErrNotMounted)
	_, err = rbdfs.MountedAt(p.Path)
	wantError(t, err, rbdfs.ErrNotMounted)
}

func TestUmountOfOthers(t *testing.T) {
	wantError(t, rbdfs.Umount("/proc"), rbdfs.ErrNotMounted, "is proc")
	wantError(t, rbdfs.Umount(t.TempDir()), rbdfs.ErrNotMounted)
	wantError(t, rbdfs.Umount("/no/such/folder"), rbdfs.ErrNotMounted)
}

// A mount whose process was killed is cleaned by the next mount, by umount, and
// never by a mere check.
func TestStaleMount(t *testing.T) {
	testenv.Need(t, "fuse")
	for _, how := range []string{"mount", "umount", "mount through a symlink"} {
		t.Run(how, func(t *testing.T) {
			p, err := start(t, mountpoint(t), "")
			if err != nil {
				t.Fatal(err)
			}
			// Even with a file open in it.
			f, err := os.Open(p.Path + "/images/rbd/vm1/v1.img")
			if err != nil {
				t.Fatal(err)
			}
			p.kill(t)
			if _, err := os.ReadDir(p.Path); !errors.Is(err, syscall.ENOTCONN) {
				t.Fatalf("%v, want ENOTCONN", err)
			}
			if err := rbdfs.CheckOverlap(rbdfs.Place{Name: "MOUNT", Path: p.Path}, rbdfs.Place{Name: "REPO", Path: t.TempDir()}); err != nil {
				t.Error(err)
			}
			if how == "umount" {
				if err := rbdfs.Umount(p.Path); err != nil {
					t.Error(err)
				}
			} else {
				path := p.Path
				if how != "mount" {
					path = filepath.Join(t.TempDir(), "link")
					if err := os.Symlink(p.Path, path); err != nil {
						t.Fatal(err)
					}
				}
				remount(t, path)
			}
			if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
				t.Error(err)
			}
			if _, err := os.Stat(p.Path); err != nil {
				t.Error(err)
			}
		})
	}
}

// remount mounts where a stale mount is, and unmounts again.
func remount(t *testing.T, path string) {
	t.Helper()
	server, err := rbdfs.Mount(path, small(), rbdfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path + "/images/rbd/vm1/v1.img"); err != nil || string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
	if err := server.Unmount(); err != nil {
		t.Error(err)
	}
}

// A mount whose process is stopped is not waited for.
func TestStoppedProcess(t *testing.T) {
	testenv.Need(t, "fuse")
	p, err := start(t, mountpoint(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v, %v", status, err)
	}
	_, err = rbdfs.Mount(p.Path, small(), rbdfs.Options{Clock: impatient()})
	wantError(t, err, rbdfs.ErrNoAnswer, "Resume")
	if err := p.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// Whoever keeps the mount busy is named.
func TestBusyProcess(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	file := m.Images("rbd/vm1/v1.img")
	// sh opens and changes folder itself: a fork of this program must not.
	cmd := exec.Command("sh", "-c", `cd "$1" && exec 7<"$2" && echo ready && read line`, "sh", m.Images("rbd"), file)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for name, unmount := range map[string]func() error{
		"Unmount": m.Unmount, "Umount": func() error { return rbdfs.Umount(m.Path) },
	} {
		typed := wantError(t, unmount(), rbdfs.ErrBusy, m.Path)
		want := []string{
			fmt.Sprintf("process %d (sh): working folder %s", cmd.Process.Pid, m.Images("rbd")),
			fmt.Sprintf("process %d (sh): open file %s", cmd.Process.Pid, file),
		}
		if len(typed.Holders) != 2 || typed.Holders[0].String() != want[0] || typed.Holders[1].String() != want[1] {
			t.Errorf("%s: %v, want %q", name, typed.Holders, want)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "first" {
		t.Errorf("it is no longer served: %q, %v", got, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Error(err)
	}
}

func TestBusyMounts(t *testing.T) {
	testenv.Need(t, "root")
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	below := m.Images("rbd/vm1/sub")
	if err := syscall.Mount("on-top", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	wantError(t, m.Unmount(), rbdfs.ErrBusy, "on-top is mounted below it: umount "+below)
	if err := syscall.Unmount(below, 0); err != nil {
		t.Error(err)
	}
}

func TestBusyLoopDevice(t *testing.T) {
	testenv.Need(t, "loop", "ext4")
	m := fstest.NewMount(t, ext4Library(t), rbdfs.Options{})
	image := m.Images("vm/s.img")
	device := strings.TrimSpace(run(t, "losetup", "-r", "-f", "--show", image))
	at := t.TempDir()
	detach := func() { run(t, "losetup", "-d", device) }
	defer func() { detach() }()
	run(t, "mount", "-o", "ro", device, at)
	if got, err := os.ReadFile(filepath.Join(at, "hello")); err != nil || string(got) != "from a backup\n" {
		t.Errorf("%q, %v", got, err)
	}
	typed := wantError(t, m.Unmount(), rbdfs.ErrBusy, device, image, "umount "+at+" && losetup -d "+device)
	if len(typed.Holders) != 1 || typed.Holders[0].Kind != rbdfs.HolderLoop {
		t.Errorf("%+v", typed.Holders)
	}
	run(t, "umount", at)
	wantError(t, m.Unmount(), rbdfs.ErrBusy, device+" is attached to "+image+": losetup -d "+device)
}

// ext4Library has an image with a file system of 8 MiB.
func ext4Library(t testing.TB) *fstest.Library {
	t.Helper()
	dir := t.TempDir()
	source, image := filepath.Join(dir, "files"), filepath.Join(dir, "image")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, "hello"), []byte("from a backup\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mkfs, err := testenv.Program("mkfs.ext4")
	if err != nil {
		t.Fatal(err)
	}
	run(t, mkfs, "-q", "-d", source, image, "8M")
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data(data)})
	return lib
}

// A server unmounts its own mount and no other that is at the same place.
func TestUnmountOnlyOurs(t *testing.T) {
	testenv.Need(t, "root")
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	if err := syscall.Mount("on-top", m.Path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	wantError(t, m.Unmount(), rbdfs.ErrBusy, "Something else is mounted")
	wantError(t, rbdfs.Umount(m.Path), rbdfs.ErrNotMounted, "tmpfs")
	if err := syscall.Unmount(m.Path, 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Unmount(m.Path, 0); err != nil { // ours, behind its back
		t.Fatal(err)
	}
	if err := syscall.Mount("other", m.Path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if err := syscall.Unmount(m.Path, 0); err != nil {
		t.Errorf("the other mount has gone with ours: %v", err)
	}
}
