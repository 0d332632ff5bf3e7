package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/target"
)

const conformance = "../../tests/testdata/conformance"

// recordedSums are what the real rbd gave for each snapshot of the conformance
// repository, by IMAGE@SNAPSHOT.
func recordedSums(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.Open(conformance + "/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sums := make(map[string]string)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Split(lines.Text(), "  ")
		sums[fields[1]] = fields[0]
	}
	return sums
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

func TestRestoreGivesWhatRBDGave(t *testing.T) {
	sums, index, dir := recordedSums(t), t.TempDir(), t.TempDir()
	for i, name := range []string{"increments@s7", "container@s3", "resize@r2", "raw-base@s1", "fan@day2", "discard@islands"} {
		want := sums[name]
		if want == "" {
			t.Fatalf("there is no %s in SHA256SUMS", name)
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		o := runReal(t, "restore", "--index", index, conformance+"/repo", name, "file:"+path)
		if o.code != exitOK || !strings.HasPrefix(o.stdout, "restored "+name+" to file:"+path+": ") {
			t.Errorf("%s: %+v", name, o)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil || sum(data) != want {
			t.Errorf("%s differs in the file, %v", name, err)
		}
		o = runReal(t, "restore", "--index", index, conformance+"/repo", name, "-")
		if o.code != exitOK || sum([]byte(o.stdout)) != want || !strings.HasPrefix(o.stderr, "restored "+name+" to stdout: ") {
			t.Errorf("%s differs on stdout: exit code %d, %s", name, o.code, o.stderr)
		}
	}
	// What was restored is known; to stdout nothing is.
	if o := runReal(t, "jobs", "--index", index, conformance+"/repo"); o.code != exitOK || strings.Count(o.stdout, "\n") != 7 {
		t.Errorf("%+v", o)
	}
}

func TestLatestIsRestoredWithoutASnapshot(t *testing.T) {
	o := runReal(t, "restore", "--index", ":memory:", conformance+"/repo", "container", "-")
	if o.code != exitOK || sum([]byte(o.stdout)) != recordedSums(t)["container@s6"] {
		t.Errorf("exit code %d, %s", o.code, o.stderr)
	}
}

// A backend whose target is another one.
type backendTo struct {
	packages
	target target.Target
}

func (b backendTo) OpenTarget(context.Context, targetURL, *slog.Logger) (target.Target, error) {
	return b.target, nil
}

func restoreTo(ctx context.Context, b backend, args ...string) outcome {
	var stdout, stderr lockedBuffer
	a := &app{args: append([]string{"restore"}, args...), stdout: &stdout, stderr: &stderr, backend: b, now: time.Now}
	code := a.run(ctx)
	return outcome{code, stdout.String(), stderr.String()}
}

func TestAllSnapshotsAreRestored(t *testing.T) {
	sums := recordedSums(t)
	for _, image := range []string{"container", "increments", "resize"} {
		to := &recordingTarget{}
		o := restoreTo(t.Context(), backendTo{target: to}, "--all-snapshots", "--index", ":memory:", "--image-features", "layering",
			conformance+"/repo", image, "ceph:rbd/vm")
		want := fmt.Sprintf(" of data in .*, %d snapshots\n", len(to.snapshots))
		if o.code != exitOK || len(to.snapshots) < 3 || !strings.HasSuffix(o.stdout, strings.TrimPrefix(want, " of data in .*")) {
			t.Errorf("%s: %+v, %d snapshots", image, o, len(to.snapshots))
		}
		protected := 0
		for _, s := range to.snapshots {
			if s.protected {
				protected++
			}
			if sums[image+"@"+s.name] != s.sum {
				t.Errorf("%s@%s differs", image, s.name)
			}
		}
		// Only the container has protection and metadata.
		if container := image == "container"; (protected > 0) != container || (to.layout.Meta["owner"] == "billing") != container {
			t.Errorf("%s: %d protected, metadata %q", image, protected, to.layout.Meta)
		}
		if !to.committed || !to.closed || cmp.Diff([]string{"layering"}, to.layout.Features) != "" {
			t.Errorf("%s: committed %v, closed %v, %v", image, to.committed, to.closed, to.layout.Features)
		}
	}
}

// One snapshot is restored without making one, but with the image's metadata.
func TestOneSnapshotMakesNone(t *testing.T) {
	to := &recordingTarget{}
	o := restoreTo(t.Context(), backendTo{target: to}, "--index", ":memory:", conformance+"/repo", "container@s2", "ceph:rbd/vm")
	if o.code != exitOK || len(to.snapshots) != 0 || sum(to.data) != recordedSums(t)["container@s2"] || to.layout.Features != nil {
		t.Errorf("%+v, %v", o, to.snapshots)
	}
}

func TestInterruptedRestoreIsUndone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	to := &recordingTarget{onWrite: func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}
	o := restoreTo(ctx, backendTo{target: to}, "--index", ":memory:", conformance+"/repo", "increments", "ceph:rbd/vm")
	if o.code != exitError || !strings.HasSuffix(o.stderr, "rbdbackupfs: interrupted; nothing is left at ceph:rbd/vm\n") || !to.aborted || to.committed {
		t.Errorf("%+v, aborted %v", o, to.aborted)
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir, repo := t.TempDir(), conformance+"/repo"
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(repo)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "say ceph:POOL", []string{repo, "container", "rbd/vm"}},
		{exitUsage, "--all-snapshots needs", []string{"--all-snapshots", repo, "container", "-"}},
		{exitUsage, "--image-features is for", []string{"--image-features", "layering", repo, "container", "-"}},
		{exitUsage, `no feature "nope"`, []string{"--image-features", "layering,nope", repo, "container", "ceph:rbd/vm"}},
		{exitError, taken + ": file exists; choose another name", []string{repo, "container", "file:" + taken}},
		{exitError, dir + " is a folder", []string{repo, "container", "file:" + dir}},
		{exitError, "mkdir -p " + dir + "/no", []string{repo, "container", "file:" + dir + "/no/file"}},
		{exitError, "/dev/null is a device", []string{repo, "container", "file:/dev/null"}},
		{exitError, "the new file is or lies in REPO", []string{repo, "container", "file:" + root + "/vm.img"}},
		{exitError, "there is no container@nope in " + root, []string{repo, "container@nope", "file:" + dir + "/x"}},
		{exitError, "there is no nope in " + root, []string{repo, "nope", "-"}},
	} {
		o := runReal(t, append([]string{"restore", "--index", ":memory:"}, c.args...)...)
		if o.code != c.code || !strings.Contains(o.stderr, c.want) || strings.Count(o.stderr, "\n") != 1 || o.stdout != "" {
			t.Errorf("%q: %+v, want %q", c.args, o, c.want)
		}
	}
	exists := &recordingTarget{exists: true}
	o := restoreTo(t.Context(), backendTo{target: exists}, repo, "container", "ceph:rbd/vm")
	if o.code != exitError || !strings.Contains(o.stderr, "ceph:rbd/vm exists already; choose") || !exists.closed {
		t.Errorf("%+v", o)
	}
}

// The one file of a backup that lost bytes is named, with the place in it.
func TestDamagedBackupIsNamed(t *testing.T) {
	repo, index, dir := t.TempDir(), t.TempDir(), t.TempDir()
	backup := filepath.Join(repo, "vm", "s0.diff")
	copyFile(t, conformance+"/repo/increments/s0.diff", backup)
	if o := runReal(t, "restore", "--index", index, repo, "vm@s0", "file:"+dir+"/whole"); o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	if err := os.Truncate(backup, 5000); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"file:" + dir + "/damaged", "-"} {
		o := runReal(t, "restore", "--index", index, repo, "vm@s0", to)
		if o.code != exitError || !strings.Contains(o.stderr, backup) || !strings.Contains(o.stderr, "at byte ") {
			t.Errorf("%s: exit code %d, %s", to, o.code, o.stderr)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The repository waits for files that were written just now.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(to, old, old); err != nil {
		t.Fatal(err)
	}
}

func TestStdoutThatIsClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var stderr lockedBuffer
	a := &app{
		args:   []string{"restore", "--index", ":memory:", conformance + "/repo", "container", "-"},
		stdout: w, stderr: &stderr, backend: realBackend(), now: time.Now,
	}
	if code := a.run(t.Context()); code != exitError || !strings.Contains(stderr.String(), unix.EPIPE.Error()) {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}

// A sparseSource has data in some pieces, and fails at a place.
type sparseSource struct {
	size   int64
	data   []int64 // offsets of single bytes
	failAt int64   // 0: never
}

func (s sparseSource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if s.failAt > 0 && s.failAt < off+int64(len(p)) {
		return 0, errFake
	}
	clear(p)
	for _, at := range s.data {
		if at >= off && at < off+int64(len(p)) {
			p[at-off] = byte(at%255) + 1
		}
	}
	return len(p), nil
}

func (s sparseSource) NextData(_ context.Context, off int64) (int64, error) {
	for _, at := range s.data {
		if at >= off {
			return at, nil
		}
	}
	return s.size, nil
}

func (s sparseSource) NextHole(context.Context, int64) (int64, error) { return 0, errFake }

func TestCopyOutIsInOrder(t *testing.T) {
	src := sparseSource{size: 40<<20 + 7, data: []int64{0, 4<<20 - 1, 9 << 20, 9<<20 + 1, 33 << 20, 40<<20 + 6}}
	want := make([]byte, src.size)
	if _, err := src.ReadAt(t.Context(), want, 0); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	done, err := copyOut(t.Context(), &out, src, src.size, func(int64) {})
	if err != nil || done != src.size || sum([]byte(out.String())) != sum(want) {
		t.Errorf("%d of %d bytes, %v", done, src.size, err)
	}
	src.failAt = 33 << 20
	if done, err := copyOut(t.Context(), io.Discard, src, src.size, func(int64) {}); !errors.Is(err, errFake) || done != 32<<20 {
		t.Errorf("after a read error: %d, %v", done, err)
	}
}
