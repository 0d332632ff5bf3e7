package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/tests/cluster"
	"rbdbackupfs/tests/mount"
	"rbdbackupfs/tests/scenario"
)

// A listed is what `ls --json` says of one snapshot.
type listed struct {
	Images []struct {
		Name      string `json:"name"`
		Snapshots []struct {
			Name      string `json:"name"`
			Label     string `json:"label"`
			Protected bool   `json:"protected"`
			Parent    string `json:"parent"`
			Depth     int    `json:"depth"`
			Chain     []struct {
				File string `json:"file"`
				From string `json:"from"`
				To   string `json:"to"`
			} `json:"chain"`
		} `json:"snapshots"`
	} `json:"images"`
}

func list(t *testing.T, args ...string) listed {
	t.Helper()
	r := mount.Run(t, append([]string{"ls", "--json"}, args...)...)
	var l listed
	if err := json.Unmarshal([]byte(r.Stdout), &l); err != nil {
		t.Fatalf("%v in %v", err, r)
	}
	return l
}

// TestRoundTrip imports the committed backups of every kind, each chain from its
// own files in their order, and compares what rbd then exports, snapshots
// included, with what it exported from the images that the backups were made of.
func TestRoundTrip(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	c := cluster.StartOwn(t)
	repo := filepath.Join(testdata, "conformance", "repo")
	p := inCeph(t, c, repo)
	sums := readSums(t)
	made := 0
	for _, img := range list(t, p.m.Dir).Images {
		parents := map[string]bool{}
		for _, s := range img.Snapshots {
			parents[s.Parent] = true
		}
		for _, tip := range img.Snapshots {
			if parents[tip.Label] {
				continue
			}
			made++
			p.roundTrip(sums, img.Name, tip.Label, fmt.Sprintf("image%d", made))
		}
	}
	if made < 18 || p.rolledBack == 0 || p.rolledBack > made/4 {
		t.Errorf("%d chains, %d rolled back", made, p.rolledBack)
	}
	p.wantsNothingLeft()
}

func readSums(t *testing.T) map[string]scenario.Expect {
	t.Helper()
	expects, err := scenario.ReadSums(filepath.Join(testdata, "conformance", scenario.SumsFile))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]scenario.Expect{}
	for _, e := range expects {
		sums[e.Image+"@"+e.Snapshot] = e
	}
	return sums
}

// roundTrip imports the chain of one snapshot.
func (p *place) roundTrip(sums map[string]scenario.Expect, image, tip, name string) {
	p.t.Helper()
	chain := list(p.t, p.m.Dir, image+"@"+tip).Images[0].Snapshots[0].Chain
	last := ""
	for _, link := range chain {
		if link.File == last {
			continue // an export brings all its snapshots at once
		}
		file := filepath.Join(p.m.Repo, link.File)
		if link.From != "" && last != "" && !snapshots(p.t, p.c, name)[link.From] {
			// A raw export, and the head of an export, don't know which snapshot
			// they are; the diffs on them do.
			p.c.Rbd("snap", "create", "--no-progress", "--pool", "rbd", "--image", name, "--snap", link.From)
		}
		if r := run(p.t, "cp", file, p.path(name)); r.code != 0 {
			// The export before ended elsewhere: the message says to roll back.
			p.c.Rbd("snap", "rollback", "--no-progress", "--pool", "rbd", "--image", name, "--snap", link.From)
			must(p.t, "cp", file, p.path(name))
			p.rolledBack++
		}
		last = link.File
	}
	snaps := snapshots(p.t, p.c, name)
	for _, link := range chain {
		want, known := sums[image+"@"+link.To]
		if !known {
			p.t.Errorf("no sum of %s@%s", image, link.To)
			continue
		}
		args := []string{"export", "--no-progress", "--pool", "rbd", "--image", name}
		if snaps[link.To] {
			args = append(args, "--snap", link.To)
		} else if link.To != tip {
			p.t.Errorf("%s@%s: no snapshot of that name in %v", image, link.To, snaps)
			continue
		}
		got := sha256.Sum256([]byte(p.c.Rbd(append(args, "-")...)))
		if hex.EncodeToString(got[:]) != want.SHA256 {
			p.t.Errorf("%s@%s differs", image, link.To)
		}
	}
}

// snapshots are the names of an image's snapshots in the cluster.
func snapshots(t *testing.T, c *cluster.Cluster, image string) map[string]bool {
	t.Helper()
	var list []struct {
		Name string `json:"name"`
	}
	text := c.Rbd("snap", "ls", "--format", "json", "--pool", "rbd", "--image", image)
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	names := map[string]bool{}
	for _, s := range list {
		names[s.Name] = true
	}
	return names
}

// TestSparse restores 64 GiB with 100 MiB of data, in every way: the target must
// take no more room than the data.
func TestSparse(t *testing.T) {
	testenv.Need(t, "fuse", "ceph")
	const size, data = 64 << 30, 100 << 20
	repo := t.TempDir()
	file := filepath.Join(repo, "vm", "s1.diff")
	makeSparse(t, file, size, data)
	both(t, repo, func(t *testing.T, p *place) {
		spec := "ceph:rbd/"
		if p.c != nil {
			spec = "ceph:rbd/%s?conf=" + p.c.Conf
		} else {
			spec = "file:" + p.d + "/rbd/%s.img"
		}
		ways := map[string]func(image string){
			"cp":      func(image string) { must(t, "cp", file, p.path(image)) },
			"mounted": func(image string) { must(t, "cp", p.m.Image("vm", "s1"), p.path(image)) },
			"restore": func(image string) { restore(t, p.m.Dir, "vm@s1", fmt.Sprintf(spec, image)) },
		}
		for name, way := range ways {
			image := p.name(name)
			way(image)
			if p.c != nil {
				if used := diskUsage(t, p.c, image); used > 2*data {
					t.Errorf("%s: %d bytes used", image, used)
				}
				// A folder can be compared without reading holes.
				continue
			}
			path := filepath.Join(p.d, "rbd", image+".img")
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if st.Size != size || st.Blocks*512 > 2*data {
				t.Errorf("%s: %d bytes, %d used", image, st.Size, st.Blocks*512)
			}
			if got, want := sparseSum(t, path), sparseSum(t, p.m.Image("vm", "s1")); got != want {
				t.Errorf("%s: data differs", image)
			}
		}
	})
}

// restore runs the restore command.
func restore(t *testing.T, args ...string) mount.Result {
	t.Helper()
	r := mount.Run(t, append([]string{"restore"}, args...)...)
	if r.Code != 0 {
		t.Errorf("%v", r)
	}
	return r
}

func diskUsage(t *testing.T, c *cluster.Cluster, image string) int64 {
	t.Helper()
	var du struct {
		Total int64 `json:"total_used_size"`
	}
	text := c.Rbd("du", "--format", "json", "rbd/"+image)
	if err := json.Unmarshal([]byte(text), &du); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return du.Total
}

// makeSparse makes a full diff of an image with pieces of data all over it.
func makeSparse(t *testing.T, path string, size, data int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := rbddiff.NewWriter(f, rbddiff.DiffV1)
	if err != nil {
		t.Fatal(err)
	}
	put := func(rec rbddiff.Record) {
		if err := w.WriteRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	put(rbddiff.Record{Kind: rbddiff.DiffStart})
	put(rbddiff.Record{Kind: rbddiff.To, Name: "s1"})
	put(rbddiff.Record{Kind: rbddiff.Size, Size: size})
	const pieces = 25
	piece := make([]byte, data/pieces)
	for i := range int64(pieces) {
		for j := range piece {
			piece[j] = byte(int64(j)*31>>3 ^ i | 1)
		}
		put(rbddiff.Record{Kind: rbddiff.Data, Offset: i * (size / pieces) / 4096 * 4096, Length: int64(len(piece))})
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	put(rbddiff.Record{Kind: rbddiff.End})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// sparseSum hashes the data of a file and where it lies, whatever the holes.
func sparseSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ranges, err := mount.DataRanges(f)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	for _, r := range ranges {
		buf := make([]byte, r.End-r.Start)
		if _, err := f.ReadAt(buf, r.Start); err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < int64(len(buf)); off += 4096 {
			block := buf[off:min(off+4096, int64(len(buf)))]
			if strings.Trim(string(block), "\x00") != "" {
				fmt.Fprint(sum, r.Start+off)
				sum.Write(block)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
