package parttable

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
)

// TestKernel: a loop device has the partitions that Read finds. Where the kernel has no
// parsers of its own, partx reads the table, and the kernel takes what it finds.
func TestKernel(t *testing.T) {
	testenv.Need(t, "root", "loop", "partitions")
	for name, script := range scripts() {
		t.Run(name, func(t *testing.T) {
			image := newImage(t, 64*mib)
			run(t, script, "sfdisk", "-q", image)
			checkKernel(t, image, 512)
		})
	}
	t.Run("4096", func(t *testing.T) {
		image := newImage(t, 64*mib)
		device := attach(t, image, 4096)
		run(t, scripts()["gpt"], "sfdisk", "-q", "--no-reread", device)
		run(t, "", "blockdev", "--flushbufs", device)
		table := readFile(t, image)
		if len(table.Partitions) != 3 {
			t.Errorf("%+v", table)
		}
		compare(t, "sfdisk", table, fromSfdisk(t, device))
		checkKernel(t, image, 4096)
	})
}

// TestKernelCut is for kernels that have parsers: what reaches past the end.
func TestKernelCut(t *testing.T) {
	testenv.Need(t, "root", "loop", "partitions")
	probe := newImage(t, mib)
	run(t, "label: dos\n,,83\n", "sfdisk", "-q", probe)
	if len(kernelPartitions(t, attach(t, probe, 512))) == 0 {
		t.Log("this kernel finds no partitions by itself, and has nothing to compare with")
		return
	}
	for name, script := range scripts() {
		t.Run(name, func(t *testing.T) {
			image := newImage(t, 64*mib)
			run(t, script, "sfdisk", "-q", image)
			for _, size := range []int64{63*mib + 1000, 41 * mib, 9 * mib} {
				if err := os.Truncate(image, size); err != nil {
					t.Fatal(err)
				}
				checkKernel(t, image, 512)
			}
		})
	}
}

// checkKernel compares an image with what its loop device has.
func checkKernel(t *testing.T, image string, sector int) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := Read(f, info.Size())
	got := strings.Fields(numbers(table))
	if err != nil {
		t.Log(err)
	}
	if len(got) > 0 {
		got = got[1:]
	}
	device := attach(t, image, sector)
	want := kernelPartitions(t, device)
	if len(want) == 0 && run(t, "", "partx", "--show", "--noheadings", device) != "" {
		_, err := try(t, "", "partx", "--add", device)
		t.Cleanup(func() { _, _ = try(t, "", "partx", "--delete", device) })
		want = kernelPartitions(t, device)
		if err != nil {
			// The kernel refuses a program what it does itself: overlapping ones.
			t.Log(err)
			got = slices.DeleteFunc(got, func(p string) bool { return !slices.Contains(want, p) })
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the kernel has %q, and we have %q", want, got)
	}
}

// attach makes a loop device that is gone with the test.
func attach(t *testing.T, image string, sector int) string {
	t.Helper()
	device := strings.TrimSpace(run(t, "", "losetup", "--find", "--show", "--partscan", "--sector-size", strconv.Itoa(sector), image))
	t.Cleanup(func() { run(t, "", "losetup", "--detach", device) })
	return device
}

// kernelPartitions lists the partitions of a device as numbers does.
func kernelPartitions(t *testing.T, device string) (words []string) {
	t.Helper()
	base := filepath.Base(device)
	for n := 1; n <= maxNumber; n++ {
		folder := filepath.Join("/sys/block", base, base+"p"+strconv.Itoa(n))
		start, err := os.ReadFile(filepath.Join(folder, "start"))
		if os.IsNotExist(err) {
			continue
		}
		count, err2 := os.ReadFile(filepath.Join(folder, "size"))
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		words = append(words, strconv.Itoa(n)+":"+strings.TrimSpace(string(start))+"+"+strings.TrimSpace(string(count)))
	}
	return words
}
