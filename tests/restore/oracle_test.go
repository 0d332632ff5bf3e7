package restore

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/tests/cluster"
)

// rewrite writes testdata/oracle.txt anew.
func rewrite() bool {
	f := flag.Lookup("rewrite")
	return f != nil && f.Value.String() == "true"
}

const oracleFile = "testdata/oracle.txt"

// hangLimit ends an rbd that loops for ever on an odd input.
const hangLimit = 30 * time.Second

// TestOracle gives every odd input that we have to `rbd import-diff`, or `rbd
// import`, and to import/, each onto its own twin of one image: full diffs onto an
// empty one. rbd gets diffs through a pipe, since it doesn't keep the order of
// overlapping records of a file.
//
// What is accepted here must be accepted by rbd and give the same image; what is
// refused must leave the image as it was. The table in testdata/oracle.txt has both
// outcomes, so that a change of either shows.
func TestOracle(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	testenv.Long(t)
	c := cluster.StartOwn(t)
	p := inCeph(t, c, empty(t))
	c.Rbd("create", "--size", "1M", "base")
	base := filepath.Join(t.TempDir(), "base.diff")
	text := "rbd diff v1\nt\x02\x00\x00\x00s1s\x00\x00\x10\x00\x00\x00\x00\x00w" + strings.Repeat("\x00", 10) + "\x01" + strings.Repeat("\x00", 5) +
		strings.Repeat("A", 1<<16) + "e"
	if err := os.WriteFile(base, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Rbd("import-diff", "--no-progress", base, "rbd/base")
	c.Rbd("create", "--size", "1M", "empty")
	dir := t.TempDir()
	files := unpackCases(t, dir)
	rows := make([]string, len(files))
	t.Run("cases", func(t *testing.T) {
		for i, file := range files {
			t.Run(file, func(t *testing.T) {
				t.Parallel()
				one := *p
				one.t = t
				o := oracle{place: &one, i: i, file: filepath.Join(dir, file)}
				rows[i] = fmt.Sprintf("%-34s %s", file, o.run())
			})
		}
	})
	if t.Failed() {
		return
	}
	p.wantsNothingLeft()
	got := strings.Join(rows, "\n") + "\n"
	if rewrite() {
		if err := os.WriteFile(oracleFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(oracleFile)
	if err != nil {
		t.Fatal(err)
	}
	compareRows(t, strings.Split(string(want), "\n"), strings.Split(got, "\n"))
}

func compareRows(t *testing.T, want, got []string) {
	t.Helper()
	for _, row := range got {
		if !slices.Contains(want, row) {
			t.Errorf("now  %s", row)
		}
	}
	for _, row := range want {
		if !slices.Contains(got, row) {
			t.Errorf("was  %s", row)
		}
	}
}

// unpackCases unpacks the inputs for a single import, and returns their names.
func unpackCases(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open("../../rbddiff/testdata/exports.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for files := tar.NewReader(zipped); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(header.Name)
		if filepath.Dir(header.Name) != "cases" || filepath.Ext(name) != ".diff" && filepath.Ext(name) != ".img" {
			continue
		}
		text, err := io.ReadAll(files)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
}

// An oracle is one input.
type oracle struct {
	*place
	i    int
	file string
}

// run imports the input twice and returns its row.
func (o *oracle) run() string {
	theirs, ours := fmt.Sprintf("theirs%d", o.i), fmt.Sprintf("ours%d", o.i)
	args, stdin := []string{"import", "--no-progress"}, false
	switch name := filepath.Base(o.file); {
	case filepath.Ext(name) == ".diff":
		args, stdin = []string{"import-diff", "--no-progress", "-"}, true
		for _, twin := range []string{theirs, ours} {
			o.c.Rbd("deep", "cp", "--no-progress", "rbd/"+o.base(), "rbd/"+twin)
		}
	case strings.HasPrefix(name, "raw-"):
		args = append(args, o.file)
	default:
		args = append(args, "--export-format", "2", o.file)
	}
	before := o.state(ours)
	status := o.rbd(append(args, "rbd/"+theirs), stdin)
	err := copyInto(o.file, o.path(ours))
	errno := syscall.Errno(0)
	if err != nil && !errors.As(err, &errno) {
		o.t.Fatalf("%s: %v", o.file, err)
	}
	after := o.state(ours)
	if errno != 0 && after != before {
		o.t.Errorf("%s was refused (%v), and the image changed: %s, now %s", o.file, err, before, after)
	}
	if slices.Contains(byFirstBytes(), filepath.Base(o.file)) {
		return fmt.Sprintf("rbd %-5s import %s (for what its first bytes say)", status, name(errno))
	}
	if info, err := os.Stat(o.file); err != nil || info.Size() == 0 {
		// An empty file makes nothing here: every redirection of a shell opens
		// its file before there is a byte.
		if errno != 0 || after != before {
			o.t.Errorf("an empty file: %v, %s, now %s, %v", errno, before, after, err)
		}
	} else if errno == 0 {
		if want := o.state(theirs); status != "0" || after != want {
			o.t.Errorf("%s was accepted: %s; rbd ends with %s: %s", o.file, after, status, want)
		}
	}
	return fmt.Sprintf("rbd %-5s import %s", status, name(errno))
}

// byFirstBytes are the inputs that rbd is told to take for something else than
// their first bytes say, which is what counts here.
func byFirstBytes() []string {
	return []string{"raw-is-diff.img", "raw-is-v2file.img", "v2-exists-badmagic.img"}
}

// base is the image that a diff is for: full ones are for an empty one.
func (o *oracle) base() string {
	f, err := os.Open(o.file)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := rbddiff.Scan(f, -1)
	if err == nil && !info.Steps[0].HasFrom {
		return "empty"
	}
	return "base"
}

// rbd runs the real one, and returns its status.
func (o *oracle) rbd(args []string, stdin bool) string {
	ctx, cancel := context.WithTimeout(o.t.Context(), hangLimit)
	defer cancel()
	cmd := o.c.Command(ctx, "rbd", args...)
	if stdin {
		in, err := os.Open(o.file)
		if err != nil {
			o.t.Fatal(err)
		}
		defer func() { _ = in.Close() }()
		cmd.Stdin = in
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case ctx.Err() != nil, errors.As(err, &exit) && exit.ExitCode() < 0:
		return "fails" // it hangs or dies: which of them first is a matter of time
	case errors.As(err, &exit):
		return fmt.Sprint(exit.ExitCode())
	}
	o.t.Fatal(err)
	return ""
}

// state is an image's bytes and snapshots, or that there is none.
func (o *oracle) state(image string) string {
	o.t.Helper()
	text, err := o.c.RbdErr("snap", "ls", "--format", "json", "rbd/"+image)
	if err != nil {
		return "none"
	}
	var snaps []struct {
		Name      string `json:"name"`
		Size      int64  `json:"size"`
		Protected string `json:"protected"`
	}
	if err := json.Unmarshal([]byte(text), &snaps); err != nil {
		o.t.Fatalf("%v in %s", err, text)
	}
	var info struct {
		Size     int64    `json:"size"`
		Order    int      `json:"order"`
		Features []string `json:"features"`
		Unit     int64    `json:"stripe_unit"`
		Count    int64    `json:"stripe_count"`
	}
	if err := json.Unmarshal([]byte(o.c.Rbd("info", "--format", "json", "rbd/"+image)), &info); err != nil {
		o.t.Fatal(err)
	}
	if info.Size > 1<<30 {
		return fmt.Sprint(info, snaps)
	}
	sum := sha256.Sum256([]byte(o.c.Rbd("export", "--no-progress", "rbd/"+image, "-")))
	return fmt.Sprint(info, hex.EncodeToString(sum[:4]), snaps)
}

// copyInto copies as cp does, and returns the first error of any call.
func copyInto(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	reader := bufio.NewReaderSize(in, 1<<20)
	_, err = io.Copy(struct{ io.Writer }{out}, reader)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// name is the errno as the manual pages write it.
func name(errno syscall.Errno) string {
	names := map[syscall.Errno]string{
		0: "0", syscall.EEXIST: "EEXIST", syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.EBADMSG: "EBADMSG",
		syscall.ENOSYS: "ENOSYS", syscall.EDQUOT: "EDQUOT", syscall.EFBIG: "EFBIG", syscall.EIO: "EIO", syscall.EBUSY: "EBUSY",
	}
	if text := names[errno]; text != "" {
		return text
	}
	return fmt.Sprintf("errno %d", errno)
}
