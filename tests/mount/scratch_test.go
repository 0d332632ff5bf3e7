package mount

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
)

// Scratch is the file of a snapshot in scratch/.
func (m *Mount) Scratch(image, snapshot string) string {
	return strings.Replace(m.Image(image, snapshot), filepath.Join(m.Dir, "images"), filepath.Join(m.Dir, "scratch"), 1)
}

// A dirtyFS is a kind of file system that is in use when its image is backed up.
type dirtyFS struct {
	name    string
	make    []string // command, the image follows
	options string   // of its mounts
	check   []string // command, the image follows
}

func dirtyFilesystems() []dirtyFS {
	return []dirtyFS{
		{"ext4", []string{"mkfs.ext4", "-q"}, "commit=300", []string{"e2fsck", "-fn"}},
		{"xfs", []string{"mkfs.xfs", "-q"}, "defaults", []string{"xfs_repair", "-n"}},
		{"btrfs", []string{"mkfs.btrfs", "-q"}, "commit=300", []string{"btrfs", "check", "--readonly"}},
	}
}

// TestScratchDirty recovers files from disks that were in use: their journals have to be
// replayed, which a read-only image doesn't allow.
func TestScratchDirty(t *testing.T) {
	testenv.Need(t, "root", "fuse", "loop", "ext4", "xfs", "btrfs")
	repo := t.TempDir()
	files := map[string]map[string][]byte{}
	for _, fs := range dirtyFilesystems() {
		files[fs.name] = fs.backup(t, filepath.Join(repo, "vm", fs.name, "s0.raw"))
	}
	m := Start(t, repo)
	for _, fs := range dirtyFilesystems() {
		t.Run(fs.name, func(t *testing.T) { fs.recover(t, m, files[fs.name]) })
	}
}

// backup makes a disk that is in use, and takes its state in the middle of that: what was
// synced is in its journal, what came after that isn't anywhere. It returns what was
// synced.
func (fs dirtyFS) backup(t *testing.T, backup string) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	disk, mnt := filepath.Join(dir, "disk"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", "320M", disk)
	command(t, fs.make[0], append(fs.make[1:], disk)...)
	command(t, "mount", "-o", "loop,"+fs.options, disk, mnt)
	defer command(t, "umount", mnt)
	source := rand.NewChaCha8([32]byte{3})
	synced := map[string][]byte{"empty": {}}
	for i := range 40 {
		synced[fmt.Sprintf("dir%d/file%d", i%3, i)] = draw(source, 100+i*5000)
	}
	for name, data := range synced {
		path := filepath.Join(mnt, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, data)
		f := open(t, path)
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(mnt, "unsynced"), draw(source, 300_000))
	if err := os.MkdirAll(filepath.Dir(backup), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "cp", "--sparse=always", disk, backup)
	return synced
}

func (fs dirtyFS) recover(t *testing.T, m *Mount, files map[string][]byte) {
	t.Helper()
	image, scratch := m.Image("vm/"+fs.name, "s0"), m.Scratch("vm/"+fs.name, "s0")
	before := fileSum(t, image)
	mnt := t.TempDir()
	if err := exec.CommandContext(t.Context(), "mount", "-o", "ro,loop", image, mnt).Run(); err == nil {
		command(t, "umount", mnt)
		t.Error("the image was mounted as it is: its journal isn't dirty, and this test shows nothing")
	}
	command(t, "mount", "-o", "loop", scratch, mnt)
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(mnt, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s isn't what was synced: %v", name, err)
		}
	}
	if err := os.Remove(scratch); err == nil {
		t.Error("a mounted scratch file was removed")
	}
	write(t, filepath.Join(mnt, "new"), []byte("written to scratch"))
	command(t, "umount", mnt)
	command(t, fs.check[0], append(fs.check[1:], scratch)...)
	if sum := fileSum(t, image); sum != before {
		t.Error("the image has changed")
	}
	command(t, "mount", "-o", "ro,loop", scratch, mnt)
	if got, err := os.ReadFile(filepath.Join(mnt, "new")); err != nil || string(got) != "written to scratch" {
		t.Errorf("what was written: %q, %v", got, err)
	}
	command(t, "umount", mnt)
	if err := os.Remove(scratch); err != nil {
		t.Fatal(err)
	}
	if sum := fileSum(t, scratch); sum != before {
		t.Error("after rm it isn't pristine")
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	sum, _, _ := strings.Cut(command(t, "sha256sum", path), " ")
	return sum
}

// TestScratchPartitions has the kernel find the partitions of a scratch file.
func TestScratchPartitions(t *testing.T) {
	testenv.Need(t, "root", "fuse", "loop", "ext4", "program:sfdisk", "program:partx")
	for _, label := range []string{"gpt", "dos"} {
		t.Run(label, func(t *testing.T) {
			repo := t.TempDir()
			disk := filepath.Join(repo, "s0.raw")
			command(t, "truncate", "-s", "96M", disk)
			command(t, "sh", "-c", fmt.Sprintf("printf 'label: %s\\n,32M\\n,\\n' | sfdisk -q %s", label, disk))
			m := Start(t, repo)
			scratch := m.Scratch(filepath.Base(repo), "s0")
			// A kernel that doesn't read such tables is told what partx reads.
			attach := func(flags string) (device string) {
				device = strings.TrimSpace(command(t, "losetup", flags, "--show", scratch))
				command(t, "partx", "-u", device)
				return device
			}
			device := attach("-Pf")
			detach := func() { command(t, "losetup", "-d", device) }
			defer func() { detach() }()
			mnt := t.TempDir()
			for _, part := range []string{device + "p1", device + "p2"} {
				command(t, "mkfs.ext4", "-q", part)
				command(t, "mount", part, mnt)
				write(t, filepath.Join(mnt, "name"), []byte(part))
				command(t, "umount", mnt)
				command(t, "e2fsck", "-fn", part)
			}
			detach()
			device = attach("-rPf")
			command(t, "mount", "-o", "ro", device+"p2", mnt)
			if got, err := os.ReadFile(filepath.Join(mnt, "name")); err != nil || !strings.HasSuffix(string(got), "p2") {
				t.Errorf("%q, %v", got, err)
			}
			command(t, "umount", mnt)
		})
	}
}

// TestScratchFull fills the scratch folder from a file system on a loop device, which has
// to hear of it: a loop device takes a write for success that was done in part.
func TestScratchFull(t *testing.T) {
	testenv.Need(t, "root", "fuse", "loop", "ext4")
	repo := t.TempDir()
	disk := filepath.Join(repo, "s0.raw")
	command(t, "truncate", "-s", "96M", disk)
	command(t, "mkfs.ext4", "-q", disk)
	m := Start(t, repo, Options{Flags: []string{"--scratch-limit", "20MiB"}, Expected: []string{"limit of the scratch folder"}})
	scratch := m.Scratch(filepath.Base(repo), "s0")
	mnt := t.TempDir()
	command(t, "mount", "-o", "loop", scratch, mnt)
	noise := filepath.Join(t.TempDir(), "noise")
	write(t, noise, draw(rand.NewChaCha8([32]byte{7}), 40<<20))
	out, err := exec.CommandContext(t.Context(), "dd", "if="+noise, "of="+filepath.Join(mnt, "big"), "bs=1M", "conv=fsync").CombinedOutput()
	if err == nil {
		t.Errorf("40 MiB were durable in 20 MiB: %s", out)
	}
	command(t, "umount", mnt)
	if err := os.Remove(scratch); err != nil {
		t.Fatal(err)
	}
	command(t, "e2fsck", "-fn", scratch)
}

// TestScratchFio has fio write, verify and trim, by the page cache and directly.
func TestScratchFio(t *testing.T) {
	testenv.Need(t, "fuse", "program:fio")
	repo := t.TempDir()
	source := rand.NewChaCha8([32]byte{4})
	write(t, filepath.Join(repo, "s0.raw"), draw(source, 48<<20))
	m := Start(t, repo)
	scratch := m.Scratch(filepath.Base(repo), "s0")
	for _, mode := range [][]string{
		{"--ioengine=psync", "--direct=0", "--bsrange=512-100k", "--bs_unaligned"},
		{"--ioengine=psync", "--direct=1", "--bsrange=4k-128k", "--blockalign=4k"},
		{"--ioengine=libaio", "--iodepth=8", "--direct=1", "--bs=4k"},
		{"--ioengine=mmap", "--bs=4k"},
	} {
		args := append([]string{
			"--name=scratch", "--filename=" + scratch, "--rw=randwrite", "--size=48m", "--io_size=24m", "--verify=crc32c", "--verify_fatal=1",
			"--do_verify=1", "--overwrite=1", "--allow_file_create=0", "--fallocate=none", "--fsync=32", "--output-format=terse",
		}, mode...)
		command(t, "fio", args...)
	}
}

// TestScratchKill writes at random, kills the mount at any moment, and mounts again: each
// block is one that was written since the last fsync, or what was durable then.
func TestScratchKill(t *testing.T) {
	testenv.Need(t, "root", "fuse")
	const block, size = 4096, 8 << 20
	repo := t.TempDir()
	source := rand.New(rand.NewPCG(5, 5))
	noise := rand.NewChaCha8([32]byte{5})
	base := draw(noise, size)
	write(t, filepath.Join(repo, "s0.raw"), base)
	m := Start(t, repo)
	scratch := m.Scratch(filepath.Base(repo), "s0")
	// For each block what it may hold.
	may := make([][][]byte, size/block)
	for i := range may {
		may[i] = [][]byte{base[i*block : (i+1)*block]}
	}
	for range 6 {
		f, err := os.OpenFile(scratch, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range source.IntN(120) + 1 {
			first := source.IntN(size / block)
			count := min(source.IntN(40)+1, size/block-first)
			data := draw(noise, count*block)
			if source.IntN(4) == 0 {
				clear(data)
				if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(first*block), int64(count*block)); err != nil {
					t.Fatal(err)
				}
			} else if _, err := f.WriteAt(data, int64(first*block)); err != nil {
				t.Fatal(err)
			}
			for i := range count {
				may[first+i] = append(may[first+i], data[i*block:(i+1)*block])
			}
			if source.IntN(20) == 0 {
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				for i, states := range may {
					may[i] = states[len(states)-1:]
				}
			}
		}
		m.Kill()
		_ = f.Close() // of a mount that is gone
		m.Again()
		got, err := os.ReadFile(scratch)
		if err != nil {
			t.Fatal(err)
		}
		for i, states := range may {
			is := got[i*block : (i+1)*block]
			if !holdsOne(states, is) {
				t.Fatalf("block %d is none of the %d that it may be", i, len(states))
			}
			may[i] = [][]byte{is}
		}
	}
	if got := fileSum(t, m.Image(filepath.Base(repo), "s0")); got != fileSum(t, filepath.Join(repo, "s0.raw")) {
		t.Error("the image has changed")
	}
}

func holdsOne(states [][]byte, is []byte) bool {
	for _, state := range states {
		if bytes.Equal(state, is) {
			return true
		}
	}
	return false
}

// TestScratchMapped writes by mmap.
func TestScratchMapped(t *testing.T) {
	testenv.Need(t, "fuse")
	repo := t.TempDir()
	noise := rand.NewChaCha8([32]byte{6})
	want := draw(noise, 1<<20+5000)
	write(t, filepath.Join(repo, "s0.raw"), want)
	m := Start(t, repo)
	scratch := m.Scratch(filepath.Base(repo), "s0")
	f, err := os.OpenFile(scratch, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for off := 1000; off+7777 < len(want); off += 99_999 {
		data := draw(noise, 7777)
		copy(mapped[off:], data)
		copy(want[off:], data)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(scratch); err == nil {
		t.Error("a file that is mapped was removed")
	}
	if err := unix.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	m.Again()
	if got, err := os.ReadFile(scratch); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after another mount it holds other bytes: %v", err)
	}
}

// TestScratchWithheld changes a backup under what was written over it.
func TestScratchWithheld(t *testing.T) {
	testenv.Need(t, "fuse")
	repo := t.TempDir()
	backup := filepath.Join(repo, "vm", "s0.raw")
	place(t, backup, bytes.Repeat([]byte("first..."), 1<<10))
	m := Start(t, repo, Options{Changing: true, Expected: []string{"removing the file in scratch/ drops"}})
	scratch := m.Scratch("vm", "s0")
	f, err := os.OpenFile(scratch, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("changed"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	second := bytes.Repeat([]byte("second.."), 1<<10)
	write(t, backup, second)
	m.Again()
	if _, err := os.ReadFile(scratch); !strings.Contains(fmt.Sprint(err), unix.ESTALE.Error()) {
		t.Errorf("it is still there: %v", err)
	}
	said := Run(t, "status", m.Dir).Stdout
	cure := "rm " + scratch
	if !strings.Contains(said, "scratch/vm/s0.img is withheld: the backup has changed under what was written to it. To drop what was written: "+cure+"\n") {
		t.Errorf("status says\n%s", said)
	}
	if out, err := exec.CommandContext(context.Background(), "sh", "-c", cure).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(scratch); err != nil || !bytes.Equal(got, second) {
		t.Errorf("once dropped: %v", err)
	}
	if said := Run(t, "status", m.Dir).Stdout; strings.Contains(said, "scratch") {
		t.Errorf("status says\n%s", said)
	}
}
