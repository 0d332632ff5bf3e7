package fs_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// many has snapshots shared out evenly over images.
func many(images, snapshots int) *fstest.Library {
	lib := fstest.New()
	content := fstest.Data([]byte("x"))
	for i := range images {
		specs := make([]fstest.Spec, snapshots/images)
		for j := range specs {
			specs[j] = fstest.Spec{Name: fmt.Sprintf("backup-%06d", j), Content: content}
		}
		lib.Set(fmt.Sprintf("rbd/vm-%04d", i), specs...)
	}
	return lib.List()
}

// BenchmarkList is the time of one command on a new mount of 100,000 snapshots,
// and what this process has grown by during it.
func BenchmarkList(b *testing.B) {
	for _, images := range []int{1, 1000} {
		for _, command := range []string{"ls -f", "ls", "ls -l", "find"} {
			b.Run(fmt.Sprintf("images=%d/%s", images, command), func(b *testing.B) {
				lib := many(images, 100_000)
				for b.Loop() {
					b.StopTimer()
					list(b, lib, command)
				}
			})
		}
	}
}

func list(b *testing.B, lib *fstest.Library, command string) {
	m := fstest.NewMount(b, lib, rbdfs.Options{})
	args := append(strings.Fields(command), m.Images("rbd"))
	if strings.HasPrefix(command, "ls") {
		args = append(args, "-R")
	}
	cmd := exec.Command(args[0], args[1:]...)
	debug.FreeOSMemory()
	before := resident(b)
	b.StartTimer()
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(resident(b)-before)/(1<<20), "MiB-grown")
	b.ReportMetric(float64(resident(b))/(1<<20), "MiB-resident")
	if err := m.Unmount(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// resident is the memory of this process, in bytes.
func resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// BenchmarkRead reads 1 GiB in order, through the page cache and past it, from a
// library that does nothing but clear the buffer: the cost of FUSE.
func BenchmarkRead(b *testing.B) {
	const size = 1 << 30
	for _, kib := range []int{128, 512, 1024, 4096} {
		for _, args := range []string{"bs=1M", "bs=128K", "bs=1M iflag=direct"} {
			b.Run(fmt.Sprintf("read-ahead=%dk/dd %s", kib, args), func(b *testing.B) {
				lib := fstest.New().List()
				lib.Set("vm", fstest.Spec{Name: "s", Content: &fstest.Content{Size: size}})
				m := fstest.NewMount(b, lib, rbdfs.Options{ReadAheadKB: kib})
				b.SetBytes(size)
				for b.Loop() {
					lib.Set("vm", fstest.Spec{Name: "s", Content: &fstest.Content{Size: size}}) // new pages
					cmd := exec.Command("dd", append(strings.Fields(args), "status=none", "of=/dev/null", "if="+m.Images("vm/s.img"))...)
					if err := cmd.Run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRandomRead reads 4 KiB anywhere, from two goroutines, past the cache.
func BenchmarkRandomRead(b *testing.B) {
	const size, page = 1 << 40, 4096
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: &fstest.Content{Size: size}})
	m := fstest.NewMount(b, lib, rbdfs.Options{})
	f := open(b, m.Images("vm/s.img"), 0)
	b.SetParallelism(2)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, page)
		for off := int64(1); pb.Next(); off = (off*6364136223846793005 + 1442695040888963407) & (1<<62 - 1) {
			if _, err := f.ReadAt(buf, off%size/page*page); err != nil && err != io.EOF {
				b.Error(err)
				return
			}
		}
	})
	runtime.KeepAlive(f)
}
