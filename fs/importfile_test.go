package fs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/internal/testenv"
)

// What goes wrong reaches the program, in the words of its errno.
func TestImportErrors(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	source := filepath.Join(t.TempDir(), "source")
	holes(t, source)
	fail := func(errno syscall.Errno) error { return &target.Error{Op: "import", Errno: errno} }
	tests := map[string]struct {
		script string
		set    func(*fstest.Job)
		says   string
	}{
		"start":       {`cp "$1" "$2"`, func(j *fstest.Job) { j.StartErr = fail(syscall.EACCES) }, "Permission denied"},
		"first write": {`cp "$1" "$2"`, func(j *fstest.Job) { j.WriteErr = fail(syscall.EEXIST) }, "File exists"},
		"later write": {`cp "$1" "$2"`, func(j *fstest.Job) { j.WriteErr, j.WriteErrAt = fail(syscall.EBADMSG), 5<<20 }, "Bad message"},
		"copy range":  {`cp --sparse=never "$1" "$2"`, func(j *fstest.Job) { j.WriteErr = fail(syscall.EDQUOT) }, "Disk quota exceeded"},
		"close of cp": {`cp "$1" "$2"`, func(j *fstest.Job) { j.FlushErr = fail(syscall.EINVAL) }, "Invalid argument"},
		"close of dd": {`dd status=none if="$1" of="$2"`, func(j *fstest.Job) { j.FlushErr = fail(syscall.EIO) }, "Input/output error"},
		"fsync":       {`dd status=none if="$1" of="$2" conv=fsync`, func(j *fstest.Job) { j.SyncErr = fail(syscall.ENOSPC) }, "No space left"},
		"any error":   {`cat "$1" > "$2"`, func(j *fstest.Job) { j.WriteErr = errors.New("anything") }, "Input/output error"},
		"rsync":       {`rsync --inplace "$1" "$2"`, func(j *fstest.Job) { j.WriteErr = fail(syscall.EEXIST) }, "File exists"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if name == "rsync" {
				testenv.Need(t, "rsync")
			}
			importer.Script(test.set)
			out, err := sh("LC_ALL=C "+test.script, source, m.Import("rbd/x"))
			if err == nil || !strings.Contains(string(out), test.says) {
				t.Errorf("%v, %s, want %q", err, out, test.says)
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	testenv.Need(t, "root")
	m, importer := importMount(t, rbdfs.Options{})
	path := m.Import("rbd/x")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	open := func(path string, flags int) error {
		other, err := os.OpenFile(path, flags, 0o600)
		if err == nil {
			err = errors.Join(errors.New("it was opened"), other.Close())
		}
		return err
	}
	tests := map[string]struct {
		err  error
		want syscall.Errno
	}{
		"second writer":       {open(path, os.O_WRONLY), syscall.EBUSY},
		"second, truncating":  {open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC), syscall.EBUSY},
		"second, exclusive":   {open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL), syscall.EEXIST},
		"reader":              {open(path, os.O_RDONLY), syscall.EACCES},
		"reader that creates": {open(m.Import("rbd/y"), os.O_RDONLY|os.O_CREATE), syscall.EACCES},
		"dot":                 {open(m.Import("rbd/.x"), os.O_WRONLY|os.O_CREATE), syscall.EINVAL},
		"at sign":             {open(m.Import("rbd/x@y"), os.O_WRONLY|os.O_CREATE), syscall.EINVAL},
		"namespace":           {open(m.Import("rbd/ns"), os.O_WRONLY|os.O_CREATE), syscall.EISDIR},
		"among the pools":     {open(m.Import("x"), os.O_WRONLY|os.O_CREATE), syscall.EROFS},
		"no such pool":        {open(m.Import("missing/x"), os.O_WRONLY|os.O_CREATE), syscall.ENOENT},
		"among the jobs":      {open(m.Import(".jobs/x.json"), os.O_WRONLY|os.O_CREATE), syscall.EROFS},
		"unlink":              {os.Remove(path), syscall.EROFS},
		"rename":              {os.Rename(path, m.Import("rbd/z")), syscall.EROFS},
		"rename into":         {os.Rename(m.Images("rbd/vm1/v1.img"), m.Import("rbd/z")), syscall.EROFS},
		"rmdir":               {syscall.Rmdir(m.Import("rbd/ns")), syscall.EROFS},
		"link":                {os.Link(path, m.Import("rbd/z")), syscall.EROFS},
		"symlink":             {os.Symlink("x", m.Import("rbd/z")), syscall.EROFS},
		"mkdir below":         {os.Mkdir(m.Import("rbd/ns/z"), 0o700), syscall.EROFS},
		"mkdir of a dot":      {os.Mkdir(m.Import(".z"), 0o700), syscall.EINVAL},
		"setxattr":            {unix.Setxattr(path, "user.x", []byte("y"), 0), syscall.ENOTSUP},
		"tmpfile":             {open(m.Import("rbd"), unix.O_TMPFILE|os.O_RDWR), syscall.EROFS},
		"punch": {unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096),
			syscall.EOPNOTSUPP},
		"zero range": {unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, 0, 4096), syscall.EOPNOTSUPP},
	}
	_, readErr := f.ReadAt(make([]byte, 10), 0)
	tests["read"] = struct {
		err  error
		want syscall.Errno
	}{readErr, syscall.EOPNOTSUPP}
	_, attrErr := unix.Getxattr(path, "user.rbdbackupfs.image", nil)
	tests["getxattr"] = struct {
		err  error
		want syscall.Errno
	}{attrErr, syscall.ENODATA}
	for name, test := range tests {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", name, test.err, test.want)
		}
	}
	if lines := m.Log.Take("--inplace"); len(lines) != 1 {
		t.Errorf("logged: %q", lines)
	}
	if jobs := importer.Jobs(); len(jobs) != 1 {
		t.Errorf("%d jobs", len(jobs))
	}
}

// What a file in import/ lets be set, and what that does.
func TestImportAttributes(t *testing.T) {
	now := time.Now()
	var later atomic.Int64
	clock := &rbdfs.Clock{
		Now:         func() time.Time { return now.Add(time.Duration(later.Load())) },
		WithTimeout: impatient().WithTimeout,
	}
	m, importer := importMount(t, rbdfs.Options{Clock: clock})
	path := m.Import("rbd/x")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	size := func(want int64) {
		t.Helper()
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Size != want || stat(t, path).Size != want {
			t.Errorf("st_size %d, by name %d, want %d, %v", st.Size, stat(t, path).Size, want, err)
		}
	}
	settable := func() error {
		return errors.Join(os.Chmod(path, 0o777), os.Chown(path, 1, 1), os.Chtimes(path, now, now))
	}
	if _, err := f.Write(make([]byte, 10_000)); err != nil {
		t.Error(err)
	}
	size(10_000)
	if err := errors.Join(f.Truncate(5), f.Chmod(0), settable()); err != nil {
		t.Error(err)
	}
	size(5)
	if err := unix.Fallocate(int(f.Fd()), 0, 100, 50); err != nil {
		t.Error(err)
	}
	size(150)
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 500); err != nil {
		t.Error(err)
	}
	size(150)
	if err := errors.Join(os.Truncate(path, 1<<20), f.Sync()); err != nil {
		t.Error(err)
	}
	size(1 << 20)
	st := stat(t, path)
	if st.Mode != syscall.S_IFREG|0o600 || st.Blksize != 1<<20 || int(st.Uid) != os.Getuid() || st.Blocks != 20 {
		t.Errorf("%+v", st)
	}
	if _, syncs, _ := importer.Last().Counts(); syncs != 1 {
		t.Errorf("%d syncs", syncs)
	}
	closeFile(t, f)
	<-importer.Last().Released

	// For its writer it is still there, for nobody else.
	if again := stat(t, path); again.Ino != st.Ino || again.Size != 1<<20 {
		t.Errorf("%+v", again)
	}
	if err := errors.Join(settable(), os.Truncate(path, 1<<20)); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(path, 7); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("truncate: %v", err)
	}
	if out, err := exec.Command("test", "-e", path).CombinedOutput(); err == nil {
		t.Errorf("others find it: %s", out)
	}
	later.Store(int64(5 * time.Second))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after 5 s: %v", err)
	}
}

// Its writer can write it again: another job, another inode.
func TestImportAgain(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	path := m.Import("rbd/x")
	inodes := map[uint64]bool{}
	const times = 50
	for range times {
		if err := os.WriteFile(path, []byte("some"), 0o600); err != nil {
			t.Fatal(err)
		}
		inodes[stat(t, path).Ino] = true
	}
	if jobs := importer.Jobs(); len(jobs) != times || len(inodes) != times {
		t.Errorf("%d jobs, %d inodes", len(jobs), len(inodes))
	}
	// And so can anybody else, exclusively too.
	for range times {
		if out, err := sh(`set -C; echo a > "$1"`, path); err != nil {
			t.Fatalf("%v, %s", err, out)
		}
	}
}

// The kernel tells of the last close after it has returned. Whoever comes then
// finds no file, and no other writer.
func TestImportLateRelease(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	path := m.Import("rbd/x")
	for name, next := range map[string]func() error{
		"exclusive": func() error { return exec.Command("sh", "-c", `set -C; echo a > "$1"`, "sh", path).Run() },
		"other":     func() error { return exec.Command("cp", "/proc/version", path).Run() },
		"same":      func() error { return os.WriteFile(path, []byte("a"), 0o600) },
	} {
		late := make(chan struct{})
		importer.Script(func(job *fstest.Job) { job.Late = late })
		if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
		importer.Script(nil)
		time.AfterFunc(100*time.Millisecond, func() { close(late) })
		if err := next(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-importer.Last().Released
	}
}

// Of many that create a file, one gets it.
func TestImportRace(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	for range 20 {
		var wg sync.WaitGroup
		var opened sync.Map
		for i := range 8 {
			wg.Go(func() {
				flags := os.O_CREATE | os.O_WRONLY
				if i%2 == 0 {
					flags |= os.O_EXCL
				}
				f, err := os.OpenFile(m.Import("rbd/x"), flags, 0o600)
				switch {
				case err == nil:
					opened.Store(i, f)
				case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EBUSY):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		opened.Range(func(_, f any) bool {
			n++
			closeFile(t, f.(*os.File))
			return true
		})
		if n != 1 {
			t.Fatalf("%d have it open", n)
		}
		<-importer.Last().Released
	}
}

func TestImportJobs(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	path := m.Import(".jobs/0123456789abcdef.json")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	mtime := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	importer.SetReport("0123456789abcdef", "short", mtime)
	importer.SetReport("0000000000000000", "other", mtime)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	st := stat(t, path)
	if st.Size != 5 || st.Mode != syscall.S_IFREG|0o440 || st.Mtim.Sec != mtime.Unix() {
		t.Errorf("%+v", st)
	}
	importer.SetReport("0123456789abcdef", "something longer", mtime)
	if got, err := io.ReadAll(f); err != nil || string(got) != "short" {
		t.Errorf("what was open: %q, %v", got, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "something longer" || stat(t, path).Size != 16 {
		t.Errorf("%q, %v", got, err)
	}
	if got := run(t, "ls", m.Import(".jobs")); got != "0000000000000000.json\n0123456789abcdef.json\n" {
		t.Errorf("%q", got)
	}
	if err := os.Remove(path); !errors.Is(err, syscall.EROFS) {
		t.Errorf("unlink: %v", err)
	}
	importer.SetReport("0123456789abcdef", "", mtime)
	if _, err := os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a job that is gone: %v", err)
	}
}
