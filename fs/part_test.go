package fs_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/parttable"
)

func parted(parts ...parttable.Partition) fstest.Spec {
	return fstest.Spec{Name: "s", Content: scattered(), Partitions: parts}
}

// Partitions are ranges of the image, with their own holes.
func TestPartitions(t *testing.T) {
	content := scattered()
	model := content.Bytes()
	third := content.Size / 3 &^ 511
	first := parttable.Partition{Number: 1, Off: 512, Size: third, Type: "0x83"}
	fifth := parttable.Partition{Number: 5, Off: third, Size: content.Size - third, Type: "0x07", Name: "data"}
	lib := fstest.New().List()
	long := strings.Repeat("n", 300)
	lib.Set("vm", parted(first, parttable.Partition{Number: 2, Off: third, Size: 1024, Type: "0x05"}, fifth),
		fstest.Spec{Name: "none", Content: fstest.Data([]byte("x"))},
		fstest.Spec{Name: "s.p1", Content: fstest.Data([]byte("no partition"))},
		fstest.Spec{Name: long, Content: scattered(), Partitions: []parttable.Partition{first}})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	entries, err := os.ReadDir(m.Images("vm"))
	if err != nil {
		t.Fatal(err)
	}
	var names, cut []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "nnn") {
			cut = append(cut, entry.Name())
			continue
		}
		names = append(names, entry.Name())
	}
	if want := []string{"latest.img", "none.img", "s%2Ep1.img", "s.img", "s.p1.img", "s.p5.img"}; !slices.Equal(names, want) || len(cut) != 2 {
		t.Errorf("%q, want %q, and two of %q", names, want, cut)
	}
	cut = slices.DeleteFunc(cut, func(name string) bool { return !strings.HasSuffix(name, ".p1.img") })
	for file, part := range map[string]parttable.Partition{"s.p1.img": first, "s.p5.img": fifth, cut[0]: first} {
		path := m.Images("vm", file)
		want := model[part.Off : part.Off+part.Size]
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s holds other bytes: %v", file, err)
		}
		f := open(t, path, 0)
		checkHoles(t, f, want)
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != part.Size || st.Blocks*512 >= st.Size {
			t.Errorf("%s has %d bytes in %d blocks: %v", file, st.Size, st.Blocks, err)
		}
		if st.Ino == inode(t, m.Images("vm/s.img")) {
			t.Errorf("%s has the inode number of the disk", file)
		}
	}
	value := make([]byte, 100)
	if n, err := unix.Getxattr(m.Images("vm/s.p5.img"), "user.rbdbackupfs.partition.name", value); err != nil || string(value[:n]) != "data" {
		t.Errorf("%q, %v", value[:n], err)
	}
	for _, file := range []string{"s.p2.img", "s.p3.img", "s.p01.img", "none.p1.img", "s.p1.p1.img", ".p1.img"} {
		if _, err := os.Lstat(m.Images("vm", file)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A partition goes with its snapshot, and is another file when that changes.
func TestPartitionsChange(t *testing.T) {
	lib := fstest.New().List()
	lib.Set("vm", parted(parttable.Partition{Number: 1, Off: 0, Size: 4096}, parttable.Partition{Number: 2, Off: 4096, Size: 4096}))
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	model := scattered().Bytes()
	first := m.Images("vm/s.p1.img")
	before := inode(t, first)
	inode(t, m.Images("vm/s.p2.img"))
	lib.Set("vm", parted(parttable.Partition{Number: 1, Off: 8192, Size: 8192}))
	eventually(t, "it has the new range", readsAs(first, model[8192:16384]))
	if inode(t, first) == before {
		t.Error("it is the same file")
	}
	eventually(t, "the other one is gone", func() bool {
		_, err := os.Lstat(m.Images("vm/s.p2.img"))
		return errors.Is(err, os.ErrNotExist)
	})
}
