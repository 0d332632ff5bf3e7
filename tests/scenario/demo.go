package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Demo builds the repository of the demonstration: a day in the life of a small
// cluster, below repo/rbd. The disk of testimg-copy is made below scratch.
func Demo(ctx context.Context, conf, repo, scratch string) ([]Expect, error) {
	b := NewBuilder(ctx, conf, repo, "rbd", Small())
	demoDisk(b, scratch)
	demoAccounts(b)
	demoMail(b)
	return b.expects, b.err
}

// demoDisk is an image with an ext4 file system: files 111, 222, test and test1
// at for-clone2; then aaa.txt; then boy.
func demoDisk(b *Builder, scratch string) {
	img := b.Create("rbd/testimg-copy", "testimg-copy", 16<<20, "--object-size", "64K")
	disk := img.NewDisk(filepath.Join(scratch, "testimg-copy"))
	fs := &ext4{b: b, disk: disk.path, scratch: scratch}
	fs.format()
	for _, name := range []string{"111", "222", "test", "test1"} {
		fs.write(name, "this is "+name+"\n")
	}
	disk.Sync()
	img.Snap("for-clone2")
	fs.write("aaa.txt", "pretty girl\n")
	disk.Sync()
	img.Snap("v1")
	fs.write("boy", "handsome boy\n")
	disk.Sync()
	img.Snap("v2")
	img.Full("for-clone2")
	img.Diff("for-clone2", "v1")
	img.Diff("for-clone2", "v2")
	img.Expect("for-clone2", "v1", "v2")
}

// demoAccounts is one format-2 export with four snapshots and image-meta.
func demoAccounts(b *Builder) {
	img := b.Create("rbd/accounts", "accounts", 4<<20, "--object-size", "256K")
	b.Rbd("image-meta", "set", img.spec, "owner", "billing")
	img.Scatter(6)
	snapshots := []string{"q1", "q2", "q3", "q4"}
	grow(img, snapshots, 3)
	img.Do("q4", "snap", "protect")
	img.Scatter(2)
	img.Container("accounts.rbd2")
	img.Expect(snapshots...)
	img.ExpectHead("accounts")
}

// demoMail is a raw export and an increment for each day after it.
func demoMail(b *Builder) {
	img := b.Create("rbd/mail", "mail", 192<<10, "--object-size", "16K")
	days := []string{"monday", "tuesday", "wednesday", "thursday"}
	grow(img, days, 4)
	img.Raw("monday", ".raw")
	for i, to := range days[1:] {
		img.Diff(days[i], to)
	}
	img.Expect(days...)
}

// ext4 is a file system in a raw file, written without mounting it: it is always
// clean, and the same bytes every time.
type ext4 struct {
	b       *Builder
	disk    string
	scratch string
}

const ext4UUID = "5f0c1a52-7d2a-4a61-9c39-1f6f0d0f7a10"

func (e *ext4) format() {
	e.run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "64", "-m", "0", "-L", "testimg",
		"-U", ext4UUID, "-E", "hash_seed="+ext4UUID+",root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1", e.disk)
}

// write makes a file in the root folder.
func (e *ext4) write(name, text string) {
	source := filepath.Join(e.scratch, name)
	if e.b.err == nil {
		e.b.err = os.WriteFile(source, []byte(text), 0o644)
	}
	e.run("debugfs", "-w", "-R", "write "+source+" "+name, e.disk)
}

func (e *ext4) run(name string, args ...string) {
	if e.b.err != nil {
		return
	}
	cmd := exec.CommandContext(e.b.ctx, name, args...)
	// mke2fs and friends live in sbin; a fixed time makes the same bytes each time.
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "E2FSPROGS_FAKE_TIME=1700000000")
	out, err := cmd.CombinedOutput()
	// debugfs ends with 0 whatever happens and says what went wrong.
	if err == nil && name == "debugfs" && strings.Count(string(out), "\n") > 2 {
		err = fmt.Errorf("unexpected output")
	}
	if err != nil {
		e.b.err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
}
