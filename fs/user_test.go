package fs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/internal/testenv"
)

const nobody = 65534

// asNobody is a command that becomes a user without rights.
func asNobody() []string {
	return []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"}
}

// inNamespaceVar says that a test runs in a mount namespace made for it.
const inNamespaceVar = "RBDBACKUPFS_TEST_IN_NAMESPACE"

// asUserTest prepares a test of a user who mounts, and reports whether it goes
// on here. Where users may not open /dev/fuse, as they may almost everywhere, it
// runs in a mount namespace that has a /dev/fuse of its own.
func asUserTest(t *testing.T) bool {
	t.Helper()
	testenv.Need(t, "root", "fuse", "program:fusermount3", "program:setpriv", "program:unshare")
	if os.Getenv(inNamespaceVar) != "" || run(t, "stat", "-L", "-c", "%a", "/dev/fuse") == "666\n" {
		return true
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `mknod "$1"/fuse c 10 229 && chmod 666 "$1"/fuse && mount --bind "$1"/fuse /dev/fuse && shift && exec "$@"`
	cmd := exec.Command("unshare", "-m", "--", "sh", "-c", script, "sh", t.TempDir(),
		program, "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inNamespaceVar+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a namespace: %v\n%s", err, out)
	}
	return false
}

// userFolder is a mountpoint of nobody's.
func userFolder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(publicDir(t), "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUserMount(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	p, err := start(t, userFolder(t), "", asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	file := p.Path + "/images/rbd/vm1/v1.img"
	if out, err := as("cat", file); err != nil || string(out) != "first" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := as("stat", "-c", "%u %a", file); err != nil || string(out) != "65534 440\n" {
		t.Errorf("%q, %v", out, err)
	}
	// Without allow_other not even root gets in.
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("root: %v", err)
	}
	for _, change := range [][]string{
		{"rm", "-f", file}, {"touch", p.Path + "/x"}, {"chmod", "600", file}, {"truncate", "-s", "0", file},
		{"sh", "-c", `test -w "$1" && echo writable || { echo Read-only file system >&2; false; }`, "sh", file},
	} {
		if out, err := as(change...); err == nil || !bytes.Contains(out, []byte("Read-only file system")) {
			t.Errorf("%v: %v, %s", change, err, out)
		}
	}
	if out, err := as("setfattr", "-n", "user.x", "-v", "1", file); err == nil || !bytes.Contains(out, []byte("not supported")) {
		t.Errorf("setfattr: %v, %s", err, out)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := rbdfs.MountedAt(p.Path); !errors.Is(err, rbdfs.ErrNotMounted) {
		t.Errorf("afterwards: %v", err)
	}
}

// as runs a command as nobody.
func as(args ...string) ([]byte, error) {
	args = append(asNobody(), args...)
	return exec.Command(args[0], args[1:]...).CombinedOutput()
}

// The options of a user reach the kernel through fusermount3.
func TestUserOptions(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	p, err := start(t, userFolder(t), "ro,noexec,noatime,umask=0277,max_read=65536,fsname=/a b", asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`/a\040b ` + p.Path + " fuse.rbdbackupfs ro,", "noexec", "noatime", "max_read=65536", "user_id=65534"} {
		if !strings.Contains(string(data), part) {
			t.Errorf("%q is not in %s", part, data)
		}
	}
	if out, err := as("stat", "-c", "%a", p.Path); err != nil || string(out) != "500\n" {
		t.Errorf("%s, %v", out, err)
	}
}

// A user's allow_other needs the administrator's word; the message says so.
func TestUserAllowOther(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	conf, err := os.ReadFile("/etc/fuse.conf")
	allowed := err == nil && strings.Contains("\n"+string(conf), "\nuser_allow_other")
	_, err = start(t, userFolder(t), "allow_other", asNobody()...)
	if allowed {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "user_allow_other") {
		t.Errorf("%v", err)
	}
}

// A user's stale mount is cleaned by the user.
func TestUserStaleMount(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	p, err := start(t, userFolder(t), "", asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	p.kill(t)
	again, err := start(t, p.Path, "", asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Error(err)
	}
}

// A user who may not open /dev/fuse is told what to have changed.
func TestUserWithoutDevice(t *testing.T) {
	testenv.Need(t, "root", "fuse", "program:setpriv", "program:unshare")
	hide := []string{"unshare", "-m", "--", "sh", "-c",
		`mknod -m 600 "$0" c 10 229 && mount --bind "$0" /dev/fuse && exec "$@"`, filepath.Join(t.TempDir(), "fuse")}
	_, err := start(t, userFolder(t), "", append(hide, asNobody()...)...)
	if err == nil || !strings.Contains(err.Error(), "chmod 666 /dev/fuse") {
		t.Errorf("%v", err)
	}
}

func TestUserWithoutHelper(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	// In a mount namespace without fusermount3.
	hide := []string{"unshare", "-m", "--", "sh", "-c", `
		for f in /bin /usr/bin; do for n in fusermount fusermount3; do
			if test -e $f/$n; then mount --bind /dev/null $(readlink -f $f/$n) || exit; fi
		done; done; exec "$@"`, "sh"}
	_, err := start(t, userFolder(t), "", append(hide, asNobody()...)...)
	if err == nil || !strings.Contains(err.Error(), "package fuse3") {
		t.Errorf("%v", err)
	}
}

// Root lets others in, as far as the modes do.
func TestRootAllowsOthers(t *testing.T) {
	testenv.Need(t, "root", "program:setpriv")
	path := filepath.Join(publicDir(t), "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	gid := uint32(nobody)
	for _, test := range []struct {
		options rbdfs.Options
		want    string
	}{
		{rbdfs.Options{}, "Permission denied"}, // 0440 of root:root
		{rbdfs.Options{GID: &gid}, "first"},
		{rbdfs.Options{GID: &gid, Umask: 0o077}, "Permission denied"},
		{rbdfs.Options{Extra: []string{"uid=65534"}}, "first"},
		{rbdfs.Options{AllowOther: new(bool), GID: &gid}, "Permission denied"},
	} {
		server, err := rbdfs.Mount(path, small(), test.options)
		if err != nil {
			t.Fatal(err)
		}
		if out, _ := as("cat", path+"/images/rbd/vm1/v1.img"); !strings.Contains(string(out), test.want) {
			t.Errorf("%+v: %q, want %q", test.options, out, test.want)
		}
		if err := server.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
}
