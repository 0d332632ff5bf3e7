package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"rbdbackupfs/internal/testenv"
)

const (
	looseRaw  = conformance + "/repo/raw-base"
	looseV2   = conformance + "/repo/container/base.rbd2"
	looseDiff = conformance + "/repo/increments"
)

// packFile compresses a file, by the tool where there is no package for it.
func packFile(t *testing.T, codec, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	switch codec {
	case "":
		out.Write(data)
	case "gz":
		w := gzip.NewWriter(&out)
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	case "zst":
		var w *zstd.Encoder
		if w, err = zstd.NewWriter(&out); err == nil {
			_, err = w.Write(data)
			err = errors.Join(err, w.Close())
		}
	default:
		tool := map[string]string{"xz": "xz", "bz2": "bzip2", "lz4": "lz4"}[codec]
		testenv.Need(t, "program:"+tool)
		cmd := exec.CommandContext(t.Context(), tool, "-c")
		cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &out
		err = cmd.Run()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLooseFilesGiveWhatRBDGave(t *testing.T) {
	sums := recordedSums(t)
	for _, codec := range []string{"", "gz", "zst", "xz", "bz2", "lz4"} {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := func(from, to string) string {
				to = filepath.Join(dir, to)
				packFile(t, codec, from, to)
				return to
			}
			diffs := []string{"s0.diff"}
			for i := range 7 {
				diffs = append(diffs, fmt.Sprintf("s%d..s%d.diff", i, i+1))
			}
			for i := range diffs {
				// Neither the names nor the order tell anything.
				diffs[i] = file(looseDiff+"/"+diffs[i], fmt.Sprintf("%d-a.partial", i))
			}
			slices.Reverse(diffs)
			// A raw one needs no name if it is whole sectors, as this isn't.
			raw := file(looseRaw+"/s0.raw", ".disk")
			for _, c := range []struct {
				want  string
				files []string
			}{
				{"increments@s7", diffs},
				{"container@s3", []string{file(looseV2, "export"), "--snapshot", "s3"}},
				{"raw-base@s1", []string{file(looseRaw+"/s0..s1.diff", "x"), raw, "--link", raw + "=s0"}},
			} {
				o := runReal(t, append(append([]string{"restore"}, c.files...), "-")...)
				if o.code != exitOK || sums[c.want] == "" || sum([]byte(o.stdout)) != sums[c.want] {
					t.Errorf("%s: exit code %d, %s", c.want, o.code, o.stderr)
				}
			}
		})
	}
}

func TestLooseRawFileOfAnyName(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "SHA256SUMS")
	packFile(t, "", "../../tests/testdata/demo/repo/rbd/mail/monday.raw", raw)
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	packFile(t, "gz", raw, raw)
	link := filepath.Join(t.TempDir(), "monday.img")
	if err := os.Symlink(raw, link); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{raw: "SHA256SUMS@SHA256SUMS", link: "monday@monday"} {
		o := runReal(t, "restore", file, "-")
		if o.code != exitOK || sum([]byte(o.stdout)) != sum(data) || !strings.HasPrefix(o.stderr, "restored "+want+" to stdout") {
			t.Errorf("exit code %d, %s", o.code, o.stderr)
		}
	}
}

// The cure, typed as it is printed, cures it: also where the name that was typed is
// another file's below the folder in common.
func TestLooseParentIsLinkedAsPrinted(t *testing.T) {
	dir := t.TempDir()
	copyFile(t, looseRaw+"/s0.raw", filepath.Join(dir, "base file"))
	copyFile(t, looseRaw+"/s0..s1.diff", filepath.Join(dir, "below/base file"))
	want := recordedSums(t)["raw-base@s1"]
	t.Chdir(filepath.Join(dir, "below"))
	files := []string{"base file", "../base file", "-"}
	o := runReal(t, append([]string{"restore"}, files...)...)
	printed := regexp.MustCompile(`(?m)^  base file: .*@s1: needs s0, and no file ends there\. If .* is what ends there, say so with --link '(.*)'=s0$`).FindStringSubmatch(o.stderr)
	if o.code != exitError || o.stdout != "" || printed == nil {
		t.Fatalf("%+v", o)
	}
	o = runReal(t, append([]string{"restore", "--link", printed[1] + "=s0"}, files...)...)
	if o.code != exitOK || sum([]byte(o.stdout)) != want {
		t.Errorf("exit code %d, %s", o.code, o.stderr)
	}
}

func TestLooseFilesRefused(t *testing.T) {
	dir := t.TempDir()
	diffs, err := filepath.Abs(looseDiff)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for from, to := range map[string]string{"s0.diff": "full", "s0..s1.diff": "s1", "s1..s2.diff": "s2"} {
		packFile(t, "", filepath.Join(diffs, from), to)
	}
	packFile(t, "", "full", "again")
	packFile(t, "", "full", "taken")
	if err := errors.Join(os.Mkdir("folder", 0o700), os.Symlink("full", "link"), os.WriteFile("notes", []byte("text"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for i, disk := range []string{"disk", "folder/disk", "zeros.gz"} {
		old := time.Now().Add(-time.Hour)
		if err := errors.Join(os.WriteFile(disk, make([]byte, 512*(i+1)), 0o600), os.Chtimes(disk, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	cut, err := os.ReadFile("s1")
	if err == nil {
		err = os.WriteFile("cut", cut[:len(cut)-9], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string // what is said in the end
	}{
		{"full folder -", exitUsage, "folder is a folder, and before TARGET there may only be backup files"},
		{"folder full s1 -", exitUsage, "restore takes REPO|MOUNTPOINT IMAGE[@SNAPSHOT] TARGET, or only files before TARGET, and there are 4"},
		{"nope -", exitError, "there is no nope; name a folder of backups, a mountpoint, or backup files"},
		{"nope full -", exitError, "there is no nope; name a folder"},
		{"full nope -", exitUsage, "there is no file nope, and before"},
		{"- file:x", exitUsage, "stdin can't be restored from"},
		{"full - file:x", exitUsage, "stdin can't be restored from"},
		{"full /dev/null -", exitUsage, "/dev/null is a device"},
		{"full s1", exitUsage, `"s1" is no target`},
		{"full", exitUsage, "(REPO|MOUNTPOINT IMAGE[@SNAPSHOT] | FILE...) TARGET, and there is only full"},
		{"full link -", exitUsage, "full and link are one file"},
		{"--link s3=x full s1 -", exitUsage, "--link s3=...: that is none of the files"},
		{"--snapshot x folder vm -", exitUsage, "--snapshot is for FILE...; say vm@x"},
		{"full file:taken", exitError, "/taken: file exists; choose another name"},
		{"--snapshot x full s1 file:new", exitError, "--snapshot x: these files don't have it, but: s0, s1\n"},
		{"--snapshot s0 full s1 file:new", exitError, "new@s0 is not made of all of these files, so nothing was restored\n  s1: leads to s1, which s0 isn't built on. Leave it out\n"},
		{"full s2 file:new", exitError, "\n  s2: new@s2: needs s1, and no file ends there. Add the export"},
		{"s1 s2 file:new", exitError, "no image can be made of these files; nothing was restored\n  s1: new@s1: needs s0, and no file ends there. Add the export that ends at s0, or name the file that holds it with --link FILE=s0\n  s2: new@s2: needs s1, which can't be served either. See new@s1\n"},
		{"full again file:new", exitError, "holds the same as another one of the files. Leave one out\n"},
		{"full ./notes file:new", exitError, "\n  ./notes: has no banner of an rbd export, and its 4 bytes aren't whole sectors, as a raw export's are. If it is one all the same, use --link ./notes=SNAPSHOT"},
		// The link is for one of the two of that name.
		{"--link disk=s0 disk folder/disk s1 file:new", exitError, "new@s1 is not made of all of these files, so nothing was restored\n  folder/disk: leads to disk, which s1 isn't built on. Leave it out\n"},
		{"zeros.gz file:new", exitError, "\n  zeros.gz: is named like a compressed file, and doesn't begin like one that can be read (at byte 0"},
		{"full cut file:new", exitError, "\n  cut: the file ends "},
	} {
		o := runReal(t, append([]string{"restore", "--index", filepath.Join(dir, "index")}, strings.Fields(c.args)...)...)
		if o.code != c.code || !strings.Contains(o.stderr, c.want) || o.stdout != "" {
			t.Errorf("%s: %+v, want %q", c.args, o, c.want)
		}
		if _, err := os.Lstat("new"); err == nil {
			t.Fatalf("%s: there is a new file", c.args)
		}
	}
}

// A file that is being written to is waited for, and then refused.
func TestLooseFileThatIsBeingWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "full.diff")
	copyFile(t, looseDiff+"/s0.diff", file)
	held, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	o := runReal(t, "restore", file, "-")
	if o.code != exitError || !strings.Contains(o.stderr, "\n  "+file+": is being written. ") || o.stdout != "" {
		t.Errorf("%+v", o)
	}
}

// With the files in a home folder, the journal and the cache may lie below the folder
// that they have in common; jobs finds it by that, whatever is beside the files.
func TestLooseRestoreHasAJournal(t *testing.T) {
	dir := t.TempDir()
	index := filepath.Join(dir, "state/index")
	copyFile(t, looseDiff+"/s0.diff", filepath.Join(dir, "a/full.diff"))
	copyFile(t, looseDiff+"/s0..s1.diff", filepath.Join(dir, "b/c/inc.diff"))
	copyFile(t, looseDiff+"/s1..s2.diff", filepath.Join(dir, "b/other.diff"))
	jobs := func(flags ...string) outcome {
		return runReal(t, append(append([]string{"jobs", "--index", index}, flags...), dir)...)
	}
	args := []string{"--all-snapshots", "--index", index, "--cache", filepath.Join(dir, "state/cache"), dir + "/b/c/inc.diff", dir + "/a/full.diff", "ceph:rbd/ns/vm"}
	var running atomic.Int32
	to := &recordingTarget{onWrite: func(context.Context) error {
		running.Add(int32(strings.Count(jobs("--json").stdout, `"state": "running"`)))
		return nil
	}}
	if o := restoreTo(t.Context(), backendTo{target: to}, args...); o.code != exitOK || running.Load() == 0 {
		t.Errorf("%+v; while it ran the journal had %d of it", o, running.Load())
	}
	to = &recordingTarget{}
	o := restoreTo(t.Context(), backendTo{target: to}, args...)
	if o.code != exitOK || !strings.HasPrefix(o.stdout, "restored rbd/ns/vm@s1 to ceph:rbd/ns/vm: ") || len(to.snapshots) != 2 {
		t.Errorf("%+v, %d snapshots", o, len(to.snapshots))
	}
	for _, s := range to.snapshots {
		if recordedSums(t)["increments@"+s.name] != s.sum {
			t.Errorf("%s differs", s.name)
		}
	}
	if o := jobs(); o.code != exitOK || strings.Count(o.stdout, " rbd/ns/vm ") != 2 {
		t.Errorf("%+v", o)
	}
	interrupt(t, index, t.TempDir(), "00000000000000aa", "cut", false)
	if o := jobs("--recover"); o.code != exitOK || o.stdout != "00000000000000aa rbd/cut: undone\n" {
		t.Errorf("%+v", o)
	}
}

// Without --index both take the same folder.
func TestLooseJournalIsThatOfTheFolder(t *testing.T) {
	dir := t.TempDir()
	copyFile(t, looseDiff+"/s0.diff", filepath.Join(dir, "full.diff"))
	var places []string
	for _, only := range [][]string{nil, {"full.diff"}} {
		repo, err := realBackend().OpenRepo(dir, repoOptions{Only: only})
		if err != nil {
			t.Fatal(err)
		}
		place, err := (&repoFlags{}).indexPlace(repo)
		if err := errors.Join(err, repo.Close()); err != nil {
			t.Fatal(err)
		}
		places = append(places, place)
	}
	if places[0] != places[1] || !filepath.IsAbs(places[0]) {
		t.Errorf("%q", places)
	}
}

// Nothing is left of the temporary folder for what is packed, nor of that of a process
// that was killed.
func TestLooseFilesLeaveNothing(t *testing.T) {
	dir, temporary := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	packFile(t, "gz", looseV2, filepath.Join(dir, "a.gz"))
	killed := filepath.Join(temporary, "rbdbackupfs-cache-123")
	if err := os.Mkdir(killed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lock", "a.chunks", "a.list"} {
		if err := os.WriteFile(filepath.Join(killed, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{exitOK, exitError} {
		o := runReal(t, "restore", filepath.Join(dir, "a.gz"), "--index", filepath.Join(dir, "ix"), "file:"+filepath.Join(dir, "image"))
		if o.code != want {
			t.Errorf("%+v", o)
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestRestoreIsCompleted(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.diff")
	copyFile(t, looseDiff+"/s0.diff", file)
	a := &app{}
	c := &cobra.Command{}
	c.SetContext(t.Context())
	for _, p := range []struct {
		args []string
		want cobra.ShellCompDirective
	}{
		{nil, cobra.ShellCompDirectiveDefault},
		{[]string{file}, cobra.ShellCompDirectiveDefault},
		{[]string{file, file}, cobra.ShellCompDirectiveDefault},
		{[]string{dir}, cobra.ShellCompDirectiveNoFileComp},
	} {
		if _, got := a.completeRestore(c, p.args, ""); got != p.want {
			t.Errorf("%q: %v", p.args, got)
		}
	}
}
