package restore

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/cluster"
)

// TestWriters restores with every program that people copy with: raw images and
// diffs, to either target.
func TestWriters(t *testing.T) {
	testenv.Need(t, "fuse", "ceph", "rsync")
	s := exports(t, cluster.Start(t), 16<<20)
	head := s.file("s1.raw.head")
	tail := s.file("s1.raw.tail")
	must(t, "sh", "-c", fmt.Sprintf("head -c 5000001 %s > %s; tail -c +5000002 %[1]s > %[3]s", s.file("s1.raw"), head, tail))
	writers := map[string]string{
		"cp":             "cp SRC DST",
		"cp -p":          "cp -p SRC DST",
		"cp -a":          "cp -a SRC DST",
		"cp sparse":      "cp --sparse=always SRC DST",
		"cp dense":       "cp --sparse=never SRC DST",
		"cat":            "cat SRC > DST",
		"append":         "cat SRC >> DST",
		"pipe":           "cat SRC | cat > DST",
		"tee":            "tee DST < SRC > /dev/null",
		"dd 64K":         "dd if=SRC of=DST bs=64K status=none",
		"dd odd":         "dd if=SRC of=DST bs=77777 status=none",
		"dd 4M":          "dd if=SRC of=DST bs=4M conv=fsync status=none",
		"dd notrunc":     "dd if=SRC of=DST bs=1M conv=notrunc status=none",
		"dd sparse":      "dd if=SRC of=DST bs=64K conv=sparse,notrunc status=none && true",
		"rsync":          "rsync --inplace SRC DST",
		"rsync -a":       "rsync -a --inplace SRC DST",
		"rsync --sparse": "rsync -a --inplace --sparse SRC DST",
		"install":        "install -m 600 SRC DST",
	}
	both(t, empty(t), func(t *testing.T, p *place) {
		for how, command := range writers {
			for _, source := range []string{"s1.raw", "s1.diff", "all.rbd2"} {
				if source == "all.rbd2" && !strings.HasPrefix(how, "c") {
					continue // to the writer it is a file like a diff
				}
				image := p.name(strings.ReplaceAll(how+"-"+source, " ", "_"))
				shell(t, strings.NewReplacer("SRC", s.file(source), "DST", "'"+p.path(image)+"'").Replace(command))
				want := s.want["s1"]
				if source == "all.rbd2" {
					want = s.want["s3"]
				}
				p.wantsBytes(image, want)
			}
		}
		image := p.name("parts")
		shell(t, fmt.Sprintf("{ cat %s; cat %s; } > '%s'", head, tail, p.path(image)))
		p.wantsBytes(image, s.want["s1"])
		// Small blocks, of the smallest diff that there is.
		small := s.file("small.diff")
		if err := os.WriteFile(small, []byte("rbd diff v1\nt\x02\x00\x00\x00s9s\x00\x20\x00\x00\x00\x00\x00\x00e"), 0o600); err != nil {
			t.Fatal(err)
		}
		image = p.name("bytes")
		shell(t, fmt.Sprintf("dd if=%s of='%s' bs=1 status=none", small, p.path(image)))
		p.wantsBytes(image, make([]byte, 8192))
		p.wantsNothingLeft()
	})
}

func shell(t *testing.T, command string) {
	t.Helper()
	must(t, "bash", "-c", command)
}

// TestRsyncNeedsInplace: a temporary name is refused, and the log says why.
func TestRsyncNeedsInplace(t *testing.T) {
	testenv.Need(t, "fuse", "ceph", "rsync")
	s := exports(t, cluster.Start(t), 8<<20)
	p := inFolder(t, t.TempDir(), empty(t))
	if r := run(t, "rsync", s.file("s1.diff"), p.path("vm")); r.code == 0 {
		t.Errorf("rsync without --inplace: %s", r.out)
	}
	log, err := os.ReadFile(p.m.Log)
	if err != nil || !strings.Contains(string(log), "--inplace") {
		t.Errorf("the log doesn't name --inplace, %v", err)
	}
	if len(p.images()) != 0 {
		t.Errorf("made %q", p.images())
	}
}

// TestNothingCanBeRemoved: images of the target aren't listed, and no rm reaches
// them.
func TestNothingCanBeRemoved(t *testing.T) {
	both(t, empty(t), func(t *testing.T, p *place) {
		image := p.name("vm")
		shell(t, "printf 'bytes of an image' > '"+p.path(image)+"'")
		refused(t, "No such file", "stat", p.path(image))
		run(t, "rm", "-rf", p.m.Dir)
		p.wantsBytes(image, []byte("bytes of an image"))
	})
}

// TestKilledWriter: cp that is killed, or interrupted, restores nothing, and the
// same cp again does.
func TestKilledWriter(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	s := exports(t, cluster.Start(t), 16<<20)
	both(t, empty(t), func(t *testing.T, p *place) {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
			for _, source := range []string{"s1.raw", "s1.diff", "all.rbd2"} {
				image := p.name(fmt.Sprintf("%d-%s", signal, source))
				killCat(t, signal, s.file(source), p.path(image))
				must(t, "cp", s.file(source), p.path(image))
				p.wantsBytes(image, map[bool][]byte{true: s.want["s3"], false: s.want["s1"]}[source == "all.rbd2"])
				if source == "s1.diff" {
					killCat(t, signal, s.file("s1..s2.diff"), p.path(image))
					p.wantsBytes(image, s.want["s1"])
					must(t, "cp", s.file("s1..s2.diff"), p.path(image))
					p.wantsBytes(image, s.want["s2"])
				}
			}
		}
		p.wantsNothingLeft()
	})
}

// killCat writes the first half of a file through cat, and sends cat a signal
// while it waits for more.
func killCat(t *testing.T, signal syscall.Signal, source, target string) {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	cat, in := startCat(t, target)
	if _, err := in.Write(text[:len(text)/2]); err != nil {
		t.Fatal(err)
	}
	if err := cat.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := cat.Wait(); err == nil {
		t.Fatal("cat was not killed")
	}
}

// startCat starts a cat that writes to a file of import/ what comes through in.
func startCat(t *testing.T, target string) (cat *exec.Cmd, in io.WriteCloser) {
	t.Helper()
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cat = exec.Command("cat")
	cat.Stdout = out
	if in, err = cat.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	// A close in this process is a flush of its own, which must come before the
	// first byte: a raw image would be committed as far as it is.
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return cat, in
}
