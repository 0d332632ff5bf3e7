package fs_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// xattrs reads all attributes of a path.
func xattrs(t testing.TB, path string) map[string]string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Listxattr(path, buf)
	if err != nil {
		t.Fatalf("listxattr %s: %v", path, err)
	}
	got := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(path, name, value)
		if err != nil {
			t.Fatalf("getxattr %s %s: %v", path, name, err)
		}
		got[strings.TrimPrefix(name, "user.rbdbackupfs.")] = string(value[:n])
	}
	return got
}

func TestXattrs(t *testing.T) {
	lib := fstest.New().List()
	name := "a\n/\xff" + strings.Repeat("n", 300)
	lib.Set("rbd/ns/vm", fstest.Spec{
		Name: name, Of: "f.img", Content: &fstest.Content{Size: 1 << 30, Extents: []fstest.Extent{{Data: make([]byte, 5)}}},
		Files: []string{"rbd/ns/vm/full", "rbd/ns/vm/inc1"},
		Meta: map[string]string{
			"conf_x": "1", "": "no name", "a\x00b": "no name", strings.Repeat("k", 234): "too long",
			strings.Repeat("k", 233): "longest", "big": strings.Repeat("v", 100_000),
		},
	})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	path, err := os.Readlink(m.Images("rbd/ns/vm/latest.img"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"pool": "rbd", "image": "rbd/ns/vm", "snapshot": name, "of": "f.img", "parent": "before 1",
		"size": "1073741824", "allocated": "5", "protected": "false",
		"chain": "rbd/ns/vm/full\nrbd/ns/vm/inc1\n", "chain.length": "2",
		"meta.conf_x": "1", "meta." + strings.Repeat("k", 233): "longest", "meta.big": strings.Repeat("v", 64<<10),
	}
	if diff := cmp.Diff(want, xattrs(t, m.Images("rbd/ns/vm", path))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"pool": "rbd", "image": "rbd/ns/vm"}, xattrs(t, m.Images("rbd/ns/vm"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{}, xattrs(t, m.Images("rbd"))); diff != "" {
		t.Error(diff)
	}
}

func TestXattrSizes(t *testing.T) {
	m := one(t, fstest.Data([]byte("x")))
	path := m.Images("vm/s.img")
	const name = "user.rbdbackupfs.snapshot"
	if n, err := unix.Getxattr(path, name, nil); n != 1 || err != nil {
		t.Errorf("getxattr of size 0: %d, %v", n, err)
	}
	if n, err := unix.Getxattr(path, "user.rbdbackupfs.chain", make([]byte, 2)); !errors.Is(err, unix.ERANGE) {
		t.Errorf("getxattr of size 2: %d, %v, want ERANGE", n, err)
	}
	length, err := unix.Listxattr(path, nil)
	if err != nil || length < 100 {
		t.Errorf("listxattr of size 0: %d, %v", length, err)
	}
	if n, err := unix.Listxattr(path, make([]byte, length-1)); !errors.Is(err, unix.ERANGE) {
		t.Errorf("listxattr one too short: %d, %v, want ERANGE", n, err)
	}
	if n, err := unix.Listxattr(path, make([]byte, length)); n != length || err != nil {
		t.Errorf("listxattr: %d, %v", n, err)
	}
	for _, name := range []string{"user.other", "user.rbdbackupfs.", "security.selinux", "security.capability"} {
		if _, err := unix.Getxattr(path, name, make([]byte, 10)); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s: %v, want ENODATA", name, err)
		}
	}
}

// A long chain's list ends with a whole line; its length is told all the same.
func TestXattrLongChain(t *testing.T) {
	lib := fstest.New().List()
	var files []string
	for i := range 1000 {
		files = append(files, fmt.Sprintf("rbd/vm/increment-%04d.diff", i))
	}
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x")), Files: files})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	got := xattrs(t, m.Images("vm/s.img"))
	line := len(files[0]) + 1
	if got["chain.length"] != "1000" || len(got["chain"]) != 3072/line*line || !strings.HasPrefix(got["chain"], files[0]+"\n") {
		t.Errorf("length %s, list of %d bytes: %.60q", got["chain.length"], len(got["chain"]), got["chain"])
	}
}

// More image-meta than a list can hold must not hide everything.
func TestXattrManyMeta(t *testing.T) {
	lib := fstest.New().List()
	meta := map[string]string{}
	for i := range 5000 {
		meta[fmt.Sprintf("key-%04d-%0200d", i, 0)] = "v"
	}
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x")), Meta: meta})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	if got := xattrs(t, m.Images("vm/s.img")); len(got) < 250 || got["snapshot"] != "s" || got["parent"] != "" {
		t.Errorf("%d attributes, snapshot %q", len(got), got["snapshot"])
	}
}
