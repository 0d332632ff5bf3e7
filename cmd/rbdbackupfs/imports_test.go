package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/restore"
)

// importing is a fake whose target is a real folder.
func importing(t *testing.T) (f *fakeLibrary, dir string) {
	t.Helper()
	dir = t.TempDir()
	folder, err := restore.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	f = newFake(t.TempDir())
	f.target = folder
	close(f.idle)
	return f, dir
}

func TestMountTakesImports(t *testing.T) {
	f, dir := importing(t)
	ended, ready, stop := mounting(t, f, time.Hour, "--index", t.TempDir(), "-o", "import=file:"+dir+",import_uid=7,import-gid=8")
	ready()
	f.mu.Lock()
	tree := f.tree
	f.mu.Unlock()
	if tree.Importer == nil || tree.ImportUID == nil || *tree.ImportUID != 7 || *tree.ImportGID != 8 {
		t.Fatalf("%+v", tree)
	}
	write := func(image, text string, flush bool) {
		t.Helper()
		job, err := tree.Importer.Start(t.Context(), target.Name{Pool: "rbd", Image: image})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := job.WriteAt(t.Context(), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if flush {
			if err := job.Flush(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			job.Release()
		}
	}
	write("whole", strings.Repeat("x", 5000), true)
	write("part", strings.Repeat("y", 5000), false)
	if pools, err := tree.Importer.Pools(t.Context()); err != nil || cmp.Diff([]string{"rbd"}, pools) != "" {
		t.Errorf("pools are %q, %v", pools, err)
	}
	for _, report := range tree.Importer.Reports() {
		if text, found := tree.Importer.Report(report.ID); !found || int64(len(text)) != report.Size {
			t.Errorf("%s is %q", report.ID, text)
		}
	}
	status, err := tree.Status()
	if want := `"imports": {`; err != nil || !strings.Contains(string(status), want) || !strings.Contains(string(status), `"running": 1,`) {
		t.Errorf("status.json is %s, %v", status, err)
	}
	stop()
	o := <-ended
	if want := "/import go to file:" + dir + "\n"; o.code != exitOK || !strings.Contains(o.stdout, want) {
		t.Errorf("%+v\nwant %q", o, want)
	}
	// What wasn't whole is undone at the end of the mount.
	left, err := filepath.Glob(dir + "/rbd/*")
	hidden, again := filepath.Glob(dir + "/rbd/.*")
	if errors.Join(err, again) != nil || len(hidden) != 0 || cmp.Diff([]string{dir + "/rbd/whole.img"}, left) != "" {
		t.Errorf("left are %q and %q", left, hidden)
	}
}

func TestMountWithoutAJournalSaysSo(t *testing.T) {
	f, dir := importing(t)
	ended, ready, stop := mounting(t, f, time.Hour, "--import", "file:"+dir)
	ready()
	stop()
	if o := <-ended; o.code != exitOK || !strings.Contains(o.stderr, "an index in memory keeps no journal") {
		t.Errorf("%+v", o)
	}
}

func TestTargetThatCannotBeOpened(t *testing.T) {
	f := newFake(t.TempDir())
	f.targetErr = errFake
	ended, _, _ := mounting(t, f, time.Hour, "--import", "ceph:")
	if o := <-ended; o.code != exitError || o.stderr != "rbdbackupfs: "+errFake.Error()+"\n" || o.stdout != "" {
		t.Errorf("%+v", o)
	}
}

func TestImportFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--import rbd:vm":                              "is no target; say ceph:",
		"--import path:/x":                             "is no target; say ceph:",
		"--force-import":                               "--force-import needs --import ceph:",
		"--import-gid 3":                               "--import-gid needs --import",
		"-o image_features=layering":                   "--image-features needs --import",
		"--import ceph: --image-features a,layering":   `there is no feature "a"`,
		"--import ceph: --image-features object-map":   "object-map needs exclusive-lock",
		"-o import=ceph:?user=a&keyring=b,allow_other": `"keyring" is none of`,
	} {
		o := runReal(t, append(append([]string{"mount"}, strings.Fields(args)...), t.TempDir(), t.TempDir())...)
		if o.code != exitUsage || !strings.Contains(o.stderr, want) || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%s: %+v, want %q", args, o, want)
		}
	}
	// A value has everything but commas as it is, and these with a backslash.
	var o mountOptions
	flags := pflag.NewFlagSet("mount", pflag.ContinueOnError)
	o.addFlags(flags)
	rest, err := takeFlags([]string{`import=ceph:?conf=/a\,b&user=me,image_features=layering\,exclusive-lock,ro`}, flags)
	where, features, again := o.imports.check(flags)
	if errors.Join(err, again) != nil || where.ceph.Conf != "/a,b" || where.ceph.User != "me" ||
		cmp.Diff([]string{"layering", "exclusive-lock"}, features) != "" || cmp.Diff([]string{"ro"}, rest) != "" {
		t.Errorf("%+v, %q, %q: %v, %v", where, features, rest, err, again)
	}
}

func TestTargetMustNotOverlap(t *testing.T) {
	repo := t.TempDir()
	o := runReal(t, "mount", "-f", "--index", ":memory:", "--import", "file:"+repo+"/images", repo, t.TempDir())
	if o.code != exitError || !strings.Contains(o.stderr, "the target of --import is or lies in REPO") {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(repo + "/images"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

func TestRefusedImportsAreLogged(t *testing.T) {
	f, dir := importing(t)
	ended, ready, stop := mounting(t, f, time.Hour, "--import", "file:"+dir)
	ready()
	f.mu.Lock()
	tree := f.tree
	f.mu.Unlock()
	_, err := tree.Importer.Start(t.Context(), target.Name{Pool: "rbd", Image: "a@b"})
	_, none := tree.Importer.Namespaces(t.Context(), "nope")
	if !target.HasErrno(err, syscall.EINVAL) || !target.HasErrno(none, syscall.ENOENT) {
		t.Errorf("%v, %v", err, none)
	}
	stop()
	if o := <-ended; strings.Count(o.stderr, "import refused") != 1 || !strings.Contains(o.stderr, "a@b") {
		t.Errorf("%+v", o)
	}
}

// The routes that restoring needs answer as the library does.
func TestPathAndChangesThroughTheSocket(t *testing.T) {
	local, remote := servedConformance(t)
	changes := 0
	for _, name := range []string{"increments@s30", "container@s6", "resize@r4"} {
		image, path, err := findPath(t.Context(), remote, "/repo", name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := local.Path(t.Context(), image, path[len(path)-1].Label)
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, path)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		for i := 1; i < len(path); i++ {
			q := changesQuery{image, path[i-1].Generation, path[i].Generation}
			got, want := changesOf(t, remote, q), changesOf(t, local, q)
			changes += len(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: changes to %s:\n%s", name, path[i].Label, diff)
			}
		}
	}
	if changes < 50 {
		t.Errorf("only %d changes", changes)
	}
	_, err := remote.Path(t.Context(), "increments", "nope")
	if !isNotFound(err) {
		t.Errorf("no such snapshot: %v", err)
	}
	err = remote.Changes(t.Context(), changesQuery{"increments", 1 << 60, 1}, nil)
	if err == nil || !strings.Contains(err.Error(), "have changed meanwhile; try again") {
		t.Errorf("a generation that is gone: %v", err)
	}
	if _, err := parseChangesQuery(map[string][]string{"from": {"x"}}); err == nil {
		t.Error("from=x was taken")
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	var b strings.Builder
	if err := writeJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
