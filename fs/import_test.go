package fs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// importMount mounts small() with an Importer.
func importMount(t testing.TB, options rbdfs.Options) (*fstest.Mount, *fstest.Importer) {
	t.Helper()
	importer := fstest.NewImporter()
	options.Importer = importer
	return fstest.NewMount(t, small(), options), importer
}

// holes makes a file with data at the beginning, in the middle, and a hole at the
// end, and returns its bytes.
func holes(t testing.TB, path string) []byte {
	t.Helper()
	all := make([]byte, 9<<20+123)
	source := rand.NewChaCha8([32]byte{7})
	for _, at := range []int{0, 5<<20 + 4096} {
		if _, err := source.Read(all[at : at+1<<20]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	for _, at := range []int{0, 5<<20 + 4096} {
		if _, err := f.WriteAt(all[at:at+1<<20], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(len(all))); err != nil {
		t.Fatal(err)
	}
	return all
}

// sh runs a script with these arguments as $1 and so on.
func sh(script string, args ...string) ([]byte, error) {
	return exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput()
}

// What people write with. All bytes arrive, in a row, and nobody sees an error.
func TestImportTools(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	source := filepath.Join(t.TempDir(), "source")
	all := holes(t, source)
	tests := map[string]struct {
		need   string
		script string
	}{
		"cp":                 {script: `cp "$1" "$2"`},
		"cp -p":              {script: `cp -p "$1" "$2"`},
		"cp -a":              {script: `cp -a "$1" "$2"`},
		"cp sparse always":   {script: `cp --sparse=always "$1" "$2"`},
		"cp sparse never":    {script: `cp --sparse=never "$1" "$2"`},
		"cp reflink always":  {script: `cp --reflink=auto "$1" "$2"`},
		"mv":                 {script: `cp "$1" "$1.moved"; mv "$1.moved" "$2"`},
		"dd 1M":              {script: `dd status=none if="$1" of="$2" bs=1M`},
		"dd 4k":              {script: `dd status=none if="$1" of="$2" bs=4k`},
		"dd odd":             {script: `dd status=none if="$1" of="$2" bs=77777`},
		"dd notrunc":         {script: `dd status=none if="$1" of="$2" bs=1M conv=notrunc`},
		"dd fsync":           {script: `dd status=none if="$1" of="$2" bs=1M conv=fsync`},
		"dd sparse":          {script: `dd status=none if="$1" of="$2" bs=64k conv=sparse`},
		"dd direct":          {script: `dd status=none if="$1" of="$2" bs=1M oflag=direct`},
		"dd sync":            {script: `dd status=none if="$1" of="$2" bs=1M oflag=sync`},
		"dd append":          {script: `dd status=none if="$1" of="$2" bs=1M oflag=append conv=notrunc`},
		"cat":                {script: `cat "$1" > "$2"`},
		"cat appending":      {script: `cat "$1" >> "$2"`},
		"tee":                {script: `tee < "$1" "$2" > /dev/null`},
		"group":              {script: `{ head -c 5000000 "$1"; tail -c +5000001 "$1"; } > "$2"`},
		"group of dd":        {script: `{ dd status=none bs=1M count=3; dd status=none bs=1M; } < "$1" > "$2"`},
		"install":            {script: `install -m 640 -p "$1" "$2"`},
		"truncate":           {script: `truncate -s 9437307 "$2"; test ! -e "$2"; cp "$1" "$2"`},
		"touch":              {script: `touch "$2"; cp "$1" "$2"`},
		"tar":                {script: `cd "${1%/*}"; tar -cSf - source | (cd "${2%/*}"; tar -xf - --transform "s/.*/${2##*/}/")`},
		"rsync --inplace":    {need: "rsync", script: `rsync --inplace "$1" "$2"`},
		"rsync -a --inplace": {need: "rsync", script: `rsync -a --inplace "$1" "$2"`},
		"rsync of a folder": {need: "rsync", script: `
			mkdir "$1.d" && cp -a "$1" "$1.d/${2##*/}" && rsync -a --inplace "$1.d/" "${2%/*}/"`},
		"cp of a folder": {script: `mkdir "$1.e" && cp -a "$1" "$1.e/${2##*/}" && cp -a "$1.e/." "${2%/*}/"`},
		"rsync -avP":     {need: "rsync", script: `rsync -avP --whole-file --fsync --inplace "$1" "$2"`},
		"rsync --sparse": {need: "rsync", script: `rsync -aS --inplace "$1" "$2"`},
		"python": {need: "program:python3", script: `python3 -c '
import os, shutil, sys
shutil.copy(sys.argv[1], sys.argv[2])
shutil.copystat(sys.argv[1], sys.argv[2])
assert os.stat(sys.argv[2]).st_size == os.stat(sys.argv[1]).st_size
os.chown(sys.argv[2], 0, 0)' "$1" "$2"`},
		"python fallocate": {need: "program:python3", script: `python3 -c '
import os, shutil, sys
with open(sys.argv[1], "rb") as a, open(sys.argv[2], "xb") as b:
    os.posix_fallocate(b.fileno(), 0, os.stat(sys.argv[1]).st_size)
    shutil.copyfileobj(a, b)' "$1" "$2"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.need != "" {
				testenv.Need(t, test.need)
			}
			file := "image-" + strings.Map(func(r rune) rune {
				if r < 'a' || r > 'z' {
					return '-'
				}
				return r
			}, name)
			if out, err := sh(test.script, source, m.Import("rbd", file)); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			job := importer.Last()
			if job == nil || job.Name.String() != "rbd/"+file {
				t.Fatalf("the last job is %+v", job)
			}
			<-job.Released
			if !bytes.Equal(job.Bytes(), all) {
				t.Errorf("other bytes: %d, want %d", len(job.Bytes()), len(all))
			}
			if job.Backward() {
				t.Error("it went back")
			}
			killed, sizes := job.Flushes()
			if n := len(killed); n == 0 || killed[n-1] || sizes[n-1] != int64(len(all)) {
				t.Errorf("flushes: killed %v, at %v", killed, sizes)
			}
			if _, err := os.Lstat(m.Import("rbd", file)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("afterwards, to others: %v", err)
			}
		})
	}
}

// Writes come as the program makes them, up to 1 MiB.
func TestImportWriteSize(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	source := filepath.Join(t.TempDir(), "source")
	holes(t, source)
	for script, want := range map[string]int{
		`cp "$1" "$2"`:                           1 << 20,
		`dd status=none if="$1" of="$2" bs=1M`:   1 << 20,
		`dd status=none if="$1" of="$2" bs=512`:  512,
		`dd status=none if="$1" of="$2" bs=9999`: 9999,
	} {
		if out, err := sh(script, source, m.Import("rbd/ns/x")); err != nil {
			t.Fatalf("%s: %v, %s", script, err, out)
		}
		if _, _, largest := importer.Last().Counts(); largest > want || largest < want/2 {
			t.Errorf("%s: writes of %d bytes, want %d", script, largest, want)
		}
	}
}

// Every redirection of a shell sends a flush before the first byte, and a group
// of commands one in the middle.
func TestImportFlushes(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	if out, err := sh(`{ /bin/echo a; /bin/echo bc; } > "$1"`, m.Import("rbd/x")); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	<-importer.Last().Released
	killed, sizes := importer.Last().Flushes()
	for _, k := range killed {
		if k {
			t.Errorf("killed: %v", killed)
		}
	}
	want := map[int64]bool{0: true, 2: true, 5: true}
	for _, size := range sizes {
		delete(want, size)
	}
	if len(want) > 0 || sizes[len(sizes)-1] != 5 {
		t.Errorf("flushes at %v: none at %v", sizes, want)
	}
}

// A program that is started while the file is open closes its copy of it, and
// so commits nothing; the one that wrote does, when it ends.
func TestImportFlushOfOthers(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	flushes := func(other string) []int64 {
		const script = `exec 3>"$1"; $2; dd if=/dev/zero bs=4k count=1 status=none >&3; $2`
		if out, err := sh(script, m.Import("rbd/x"), other); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		job := <-importer.Started()
		<-job.Released
		_, sizes := job.Flushes()
		return sizes
	}
	alone, others := flushes(":"), flushes("cat /dev/null")
	if !slices.Equal(alone, others) || alone[len(alone)-1] != 4096 {
		t.Errorf("flushed at %v with others, and else at %v", others, alone)
	}
}

// rsync without --inplace would rename a temporary file.
func TestImportRsyncWithoutInplace(t *testing.T) {
	testenv.Need(t, "rsync")
	m, importer := importMount(t, rbdfs.Options{})
	source := filepath.Join(t.TempDir(), "source")
	holes(t, source)
	for range 3 {
		if out, err := sh(`rsync "$1" "$2"`, source, m.Import("rbd/x")); err == nil || !bytes.Contains(out, []byte("Invalid argument")) {
			t.Errorf("%v, %s", err, out)
		}
	}
	if lines := m.Log.Take("--inplace"); len(lines) != 1 {
		t.Errorf("logged: %q", lines)
	}
	if jobs := importer.Jobs(); len(jobs) != 0 {
		t.Errorf("%d jobs", len(jobs))
	}
}

func TestImportTree(t *testing.T) {
	m, importer := importMount(t, rbdfs.Options{})
	names := func(elems ...string) string {
		t.Helper()
		entries, err := os.ReadDir(m.Import(elems...))
		if err != nil {
			return err.Error()
		}
		var list []string
		for _, entry := range entries {
			name := entry.Name()
			if entry.IsDir() {
				name += "/"
			}
			list = append(list, name)
		}
		return strings.Join(list, " ")
	}
	f, err := os.Create(m.Import("rbd/vm"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := os.Create(m.Import("rbd/ns/vm"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, g)
	if err := os.Mkdir(m.Import("new"), 0o700); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(m.Import("new/inner"), 0o700); err != nil {
		t.Error(err)
	}
	got := map[string]string{
		"root": run(t, "ls", m.Path), "import": names(), "rbd": names("rbd"), "ns": names("rbd/ns"),
		"new": names("new"), "hidden": names("hidden"), "missing": names("missing"),
	}
	want := map[string]string{
		"root": "images\nimport\nstatus.json\n", "import": ".jobs/ new/ rbd/", "rbd": "ns/ vm", "ns": "vm",
		"new": "inner/", "hidden": "", "missing": "open " + m.Import("missing") + ": no such file or directory",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a, b := stat(t, m.Import("rbd/vm")).Ino, stat(t, m.Import("rbd/ns/vm")).Ino; a == b || a>>56 != 6 {
		t.Errorf("inodes %#x and %#x", a, b)
	}
	closeFile(t, f)
	<-importer.Jobs()[0].Released
	eventually(t, "the file is gone", func() bool { return names("rbd") == "ns/" })
	if err := os.Mkdir(m.Import("rbd/ns/x"), 0o700); err == nil {
		t.Error("a namespace has a folder")
	}
}

// Without an Importer there is no import/.
func TestNoImport(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	if _, err := os.Stat(m.Import()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
