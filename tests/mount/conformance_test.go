package mount

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/internal/treename"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/model"
	"rbdbackupfs/tests/scenario"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// testdata is the folder of the committed fixtures.
const testdata = "../testdata"

// TestModelAgreesWithRbd keeps the committed fixtures honest: the model, which
// knows the formats only, gets what rbd export recorded.
func TestModelAgreesWithRbd(t *testing.T) {
	for _, set := range []string{"demo", "conformance"} {
		expects := readSums(t, set)
		if err := model.Verify(filepath.Join(testdata, set, "repo"), expects); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// trusting is for backups of which one image has a snapshot that is called latest:
// a name that may have been used twice.
var trusting = Options{Flags: []string{"--trust-names"}}

// TestCommittedExports mounts backups that the real rbd made, of every kind, and
// compares every snapshot with what `rbd export` gave for it.
func TestCommittedExports(t *testing.T) {
	for _, set := range []string{"demo", "conformance"} {
		t.Run(set, func(t *testing.T) {
			expects := readSums(t, set)
			m := Start(t, filepath.Join(testdata, set, "repo"), trusting)
			images := byImage(expects)
			checkMountLine(t, m, len(images), len(expects))
			checkListing(t, m, images)
			for name, snapshots := range images {
				states, err := model.Load(filepath.Join(m.Repo, name))
				if err != nil {
					t.Fatal(err)
				}
				checkFolder(t, m, name, snapshots)
				for _, e := range snapshots {
					path := m.Image(e.Image, e.Snapshot)
					CheckImage(t, path, states[e.Snapshot])
					CheckSum(t, path, e.SHA256, e.Size)
				}
			}
		})
	}
}

// TestLiveExports makes the same kinds of backups anew, larger and with random
// contents, and asks `rbd export` what is right.
func TestLiveExports(t *testing.T) {
	testenv.Need(t, "ceph", "fuse")
	testenv.Long(t)
	c := cluster.StartOwn(t)
	repo := t.TempDir()
	var expects []scenario.Expect
	scale := scenario.Large(liveSeed(t))
	for _, kind := range scenario.Cases() {
		more, err := kind.Build(t.Context(), c.Conf, repo, scale)
		if err != nil {
			t.Fatal(err)
		}
		expects = append(expects, more...)
	}
	m := Start(t, repo, trusting)
	checkListing(t, m, byImage(expects))
	for _, e := range expects {
		checkExport(t, c, e, m.Image(e.Image, e.Snapshot))
	}
}

// seedVar is the environment variable that repeats a run of TestLiveExports.
const seedVar = "RBDBACKUPFS_TEST_SEED"

func liveSeed(t *testing.T) uint64 {
	seed := uint64(os.Getpid())
	if text := os.Getenv(seedVar); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatalf("%s: %v", seedVar, err)
		}
	}
	t.Logf("%s=%d repeats this run", seedVar, seed)
	return seed
}

func readSums(t *testing.T, set string) []scenario.Expect {
	t.Helper()
	expects, err := scenario.ReadSums(filepath.Join(testdata, set, scenario.SumsFile))
	if err != nil {
		t.Fatal(err)
	}
	return expects
}

func byImage(expects []scenario.Expect) map[string][]scenario.Expect {
	images := make(map[string][]scenario.Expect)
	for _, e := range expects {
		images[e.Image] = append(images[e.Image], e)
	}
	return images
}

func checkMountLine(t *testing.T, m *Mount, images, snapshots int) {
	t.Helper()
	want := fmt.Sprintf("mounted %s at %s: %d images, %d snapshots", m.Repo, m.Dir, images, snapshots)
	if !strings.Contains(m.Output, want) {
		t.Errorf("mount says %q, want %q in it", m.Output, want)
	}
}

// checkListing compares `ls --json` of the running mount with what is expected.
func checkListing(t *testing.T, m *Mount, images map[string][]scenario.Expect) {
	t.Helper()
	listing, code := List(t, m.Dir)
	if code != 0 || len(listing.Problems) > 0 {
		t.Errorf("ls ends with %d and has problems: %+v", code, listing.Problems)
	}
	var got, want []string
	for _, img := range listing.Images {
		for _, s := range img.Snapshots {
			got = append(got, fmt.Sprintf("%s@%s %d %s", img.Name, s.Label, s.Size, filepath.Join(m.Dir, s.Path)))
		}
	}
	for name, snapshots := range images {
		for _, e := range snapshots {
			want = append(want, fmt.Sprintf("%s@%s %d %s", name, e.Snapshot, e.Size, m.Image(name, e.Snapshot)))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("ls has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkFolder compares the folder of an image with its snapshots.
func checkFolder(t *testing.T, m *Mount, image string, snapshots []scenario.Expect) {
	t.Helper()
	entries, err := os.ReadDir(m.Folder(image))
	if err != nil {
		t.Error(err)
		return
	}
	want := []string{treename.Latest}
	for _, e := range snapshots {
		want = append(want, treename.ImageFile(e.Snapshot, ""))
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", m.Folder(image), got, want)
	}
	target, err := os.Readlink(filepath.Join(m.Folder(image), treename.Latest))
	if err != nil || !slices.Contains(want[:], target) || target == treename.Latest {
		t.Errorf("%s of %s leads to %q: %v", treename.Latest, image, target, err)
	}
}

// checkExport reads a snapshot once and compares it with `rbd export`; its holes
// have to hold zeros, and st_blocks has to say what they leave.
func checkExport(t *testing.T, c *cluster.Cluster, e scenario.Expect, path string) {
	t.Helper()
	f := open(t, path)
	data, err := io.ReadAll(f)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if sum := sha256.Sum256(data); int64(len(data)) != e.Size || hex.EncodeToString(sum[:]) != e.SHA256 {
		t.Errorf("%s: %d bytes with sha256 %x, rbd export gave %d with %s", path, len(data), sum, e.Size, e.SHA256)
		reportDifference(t, c, e, path)
		return
	}
	checkHoles(t, f, &model.State{Bytes: data, Raw: true})
}

// reportDifference asks rbd again, for the first byte that differs.
func reportDifference(t *testing.T, c *cluster.Cluster, e scenario.Expect, path string) {
	t.Helper()
	want := filepath.Join(t.TempDir(), "want")
	cmd := c.Command(context.Background(), "rbd", "export", "--no-progress", e.Spec, want)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a, b := open(t, path), open(t, want)
	buf := [2][]byte{make([]byte, 1<<16), make([]byte, 1<<16)}
	for off := int64(0); ; off += 1 << 16 {
		n, errA := io.ReadFull(a, buf[0])
		k, errB := io.ReadFull(b, buf[1])
		for i := range min(n, k) {
			if buf[0][i] != buf[1][i] {
				t.Errorf("%s differs from rbd export %s first at byte %d", path, e.Spec, off+int64(i))
				return
			}
		}
		if errA != nil || errB != nil {
			return
		}
	}
}

// open opens a file until the end of the test.
func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
