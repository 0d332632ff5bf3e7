package mount

import (
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/model"
	"rbdbackupfs/tests/scenario"
)

// storySize is the size of testimg-copy, bytes.
const storySize = 2 << 30

// storyFiles are the files at for-clone2, and what is in them.
func storyFiles() map[string]string {
	files := make(map[string]string)
	for _, name := range []string{"111", "222", "test", "test1"} {
		files[name] = "this is " + name + "\n"
	}
	return files
}

// TestStory lives through what an administrator does with an image: a file
// system, snapshots, exports; then the snapshot is protected, cloned, the clone
// flattened, and in the end all of it is gone from the cluster. The backups must
// not care.
func TestStory(t *testing.T) {
	testenv.Need(t, "ceph", "fuse", "loop", "root")
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			testenv.Need(t, kind)
			s := newStory(t, kind)
			s.tell()
			m := Start(t, s.repo)
			s.checkBytes(m, compareWhole)
			s.removeFromCluster()
			s.checkBytes(m, compareData)
			s.checkFiles(m)
			t.Run("cp", func(t *testing.T) { checkCp(t, m.Image(s.image, "v2")) })
			t.Run("qemu", func(t *testing.T) { checkQemu(t, m.Image(s.image, "v2")) })
		})
	}
}

// A story is one image with a file system.
type story struct {
	t     *testing.T
	c     *cluster.Cluster
	kind  string // of file system
	spec  string // pool/image, which is also the image's name in the tree
	image string
	repo  string
	raw   string // folder of the raw exports of each snapshot
	disk  string
	b     *scenario.Builder
}

func newStory(t *testing.T, kind string) *story {
	c := cluster.Start(t)
	repo := t.TempDir()
	image := "rbd/testimg-copy-" + kind
	return &story{
		t: t, c: c, kind: kind, spec: image, image: image, repo: repo, raw: t.TempDir(),
		disk: filepath.Join(t.TempDir(), "disk"),
		b:    scenario.NewBuilder(t.Context(), c.Conf, repo, "rbd", scenario.Small()),
	}
}

// tell makes the image and its backups.
func (s *story) tell() {
	s.t.Helper()
	img := s.b.Create(s.spec, filepath.Base(s.image), storySize)
	disk := img.NewDisk(s.disk)
	s.must(s.b.Err())
	command(s.t, "mkfs."+s.kind, "-q", s.disk)
	snapshot := func(name string, files map[string]string) {
		s.write(files)
		disk.Sync()
		img.Snap(name)
		s.must(s.b.Err())
	}
	snapshot("for-clone2", storyFiles())
	snapshot("v1", map[string]string{"aaa.txt": "pretty girl\n"})
	snapshot("v2", map[string]string{"boy": "handsome boy\n"})
	img.Full("for-clone2")
	img.Diff("for-clone2", "v2")
	s.must(s.b.Err())
	for _, name := range []string{"for-clone2", "v1", "v2"} {
		s.c.Rbd("export", "--no-progress", s.spec+"@"+name, filepath.Join(s.raw, name))
	}
}

// write mounts the disk, makes files in its root folder, and unmounts it.
func (s *story) write(files map[string]string) {
	s.t.Helper()
	dir := s.t.TempDir()
	command(s.t, "mount", "-o", "loop", s.disk, dir)
	defer command(s.t, "umount", dir)
	for name, text := range files {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
}

// removeFromCluster takes the image's snapshot through protect, clone, flatten
// and unprotect, and then removes all there is.
func (s *story) removeFromCluster() {
	s.t.Helper()
	snapshot, clone := s.spec+"@for-clone2", s.spec+"-clone"
	s.c.Rbd("snap", "protect", snapshot)
	s.c.Rbd("clone", snapshot, clone)
	s.c.Rbd("flatten", "--no-progress", clone)
	s.c.Rbd("snap", "unprotect", snapshot)
	s.c.Rbd("snap", "purge", "--no-progress", s.spec)
	s.c.Rbd("rm", "--no-progress", s.spec)
	s.c.Rbd("rm", "--no-progress", clone)
}

// checkBytes compares the mounted snapshots with the raw exports.
func (s *story) checkBytes(m *Mount, compare func(t *testing.T, a, b string)) {
	s.t.Helper()
	for _, name := range []string{"for-clone2", "v2"} {
		compare(s.t, filepath.Join(s.raw, name), m.Image(s.image, name))
	}
	if _, err := os.Stat(m.Image(s.image, "v1")); !os.IsNotExist(err) {
		s.t.Errorf("v1 was never exported as a diff, and is there: %v", err)
	}
}

// checkFiles loop-mounts the snapshots and reads their files.
func (s *story) checkFiles(m *Mount) {
	s.t.Helper()
	want := storyFiles()
	checkLoopMount(s.t, m.Image(s.image, "for-clone2"), want)
	maps.Copy(want, map[string]string{"aaa.txt": "pretty girl\n", "boy": "handsome boy\n"})
	checkLoopMount(s.t, m.Image(s.image, "v2"), want)
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestDemoDisk loop-mounts the disk that `make demo` shows.
func TestDemoDisk(t *testing.T) {
	testenv.Need(t, "fuse", "loop", "root")
	m := Start(t, filepath.Join(testdata, "demo", "repo"))
	want := storyFiles()
	checkLoopMount(t, m.Image("rbd/testimg-copy", "for-clone2"), want)
	want["aaa.txt"] = "pretty girl\n"
	checkLoopMount(t, m.Image("rbd/testimg-copy", "v1"), want)
	want["boy"] = "handsome boy\n"
	checkLoopMount(t, m.Image("rbd/testimg-copy", "v2"), want)
}

// TestUmountNamesLoopDevice leaves a loop device attached: umount has to refuse,
// and to say which device it is.
func TestUmountNamesLoopDevice(t *testing.T) {
	testenv.Need(t, "fuse", "loop", "root")
	m := Start(t, filepath.Join(testdata, "demo", "repo"))
	device := strings.TrimSpace(command(t, "losetup", "--read-only", "--find", "--show", m.Image("rbd/testimg-copy", "v2")))
	r := Run(t, "umount", m.Dir)
	command(t, "losetup", "-d", device)
	if r.Code != 1 || !strings.Contains(r.Stderr, device) {
		t.Errorf("want status 1 and %s by name: %v", device, r)
	}
}

// checkLoopMount mounts a snapshot's file read-only, without any option to skip
// the journal, and compares the files in its root folder.
func checkLoopMount(t *testing.T, image string, want map[string]string) {
	t.Helper()
	dir := t.TempDir()
	command(t, "mount", "-o", "ro,loop", image, dir)
	defer command(t, "umount", dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Error(err)
		}
		got[e.Name()] = string(text)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", image, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// checkCp copies a snapshot out; the copy is as sparse as the snapshot is.
func checkCp(t *testing.T, source string) {
	dir := t.TempDir()
	for _, how := range []string{"auto", "always"} {
		target := filepath.Join(dir, how)
		command(t, "cp", "--sparse="+how, source, target)
		compareData(t, source, target)
		if got, most := allocated(t, target), allocated(t, source)+1<<20; got > most {
			t.Errorf("cp --sparse=%s takes %d bytes of disk, the source %d", how, got, most)
		}
	}
}

// checkQemu converts a snapshot with qemu-img and lets it compare the two.
func checkQemu(t *testing.T, source string) {
	testenv.Need(t, "qemu")
	target := filepath.Join(t.TempDir(), "v2.qcow2")
	command(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, target)
	if out := command(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, target); !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare says %q", out)
	}
	if got, most := allocated(t, target), allocated(t, source)+4<<20; got > most {
		t.Errorf("qemu-img convert takes %d bytes of disk, the source %d", got, most)
	}
}

// compareWhole compares every byte of two files.
func compareWhole(t *testing.T, a, b string) {
	t.Helper()
	command(t, "cmp", a, b)
}

// compareData compares the size and the data of two files; what is a hole in one
// and data in the other has to be zeros.
func compareData(t *testing.T, a, b string) {
	t.Helper()
	files := [2]*os.File{open(t, a), open(t, b)}
	var sizes [2]int64
	for i, f := range files {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		sizes[i] = info.Size()
	}
	if sizes[0] != sizes[1] {
		t.Errorf("%s has %d bytes, %s has %d", a, sizes[0], b, sizes[1])
		return
	}
	for _, f := range files {
		ranges, err := DataRanges(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			var sums [2][sha256.Size]byte
			for i, f := range files {
				sums[i] = sumOf(t, f, r)
			}
			if sums[0] != sums[1] {
				t.Errorf("%s and %s differ in [%d,%d)", a, b, r.Start, r.End)
			}
		}
	}
}

func sumOf(t *testing.T, f *os.File, r model.Range) (sum [sha256.Size]byte) {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, r.Start, r.End-r.Start)); err != nil {
		t.Fatal(err)
	}
	h.Sum(sum[:0])
	return sum
}

// command runs a program, which must succeed, and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	path, err := testenv.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
