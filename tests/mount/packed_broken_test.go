package mount

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/model"
)

// A damage is done to a compressed file.
type damage struct {
	name  string
	kinds []string // of the problem; any of these
	do    func(file []byte) []byte
	// flip is true where bytes change: formats without a checksum can't tell then.
	flip bool
	// harmless tells of a packer for whose files it may change nothing.
	harmless func(p packer) bool
}

func damages() []damage {
	cut := func(at func(n int) int) func([]byte) []byte {
		return func(file []byte) []byte { return file[:at(len(file))] }
	}
	flip := func(at func(n int) int) func([]byte) []byte {
		return func(file []byte) []byte {
			bad := bytes.Clone(file)
			bad[at(len(file))] ^= 0x10
			return bad
		}
	}
	never := func(packer) bool { return false }
	isTar := func(p packer) bool { return p.codec == "tar" }
	short := []string{"incomplete", "corrupt", "unsupported"} // what it was is hard to tell
	ended := []string{"incomplete"}
	broken := []string{"corrupt", "incomplete", "unsupported"} // a length may point behind the end
	return []damage{
		{"nothing-left", short, cut(func(int) int { return 0 }), false, never},
		{"cut-in-magic", short, cut(func(int) int { return 2 }), false, never},
		{"cut-in-header", short, cut(func(int) int { return 7 }), false, never},
		{"cut-in-middle", ended, cut(func(n int) int { return n / 2 }), false, never},
		{"cut-last-byte", ended, cut(func(n int) int { return n - 1 }), false, isTar}, // of an archive: padding
		{"magic-flipped", short, flip(func(int) int { return 1 }), true, never},
		{"quarter-flipped", broken, flip(func(n int) int { return n / 4 }), true, never},
		{"middle-flipped", broken, flip(func(n int) int { return n / 2 }), true, never},
		{"last-quarter-flipped", broken, flip(func(n int) int { return n - n/4 }), true, never},
		{"last-byte-flipped", broken, flip(func(n int) int { return n - 1 }), true, func(p packer) bool {
			return p.codec == "bzip2" // which ends at a bit: what is left of the byte means nothing
		}},
	}
}

// A brokenCase is one image with one file that is damaged.
type brokenCase struct {
	image, file string
	damage      damage
	packer      packer
	want        []byte
}

// TestPackedBroken damages compressed files in many ways, all in one repository with
// an image that is fine: what is damaged is named and not served, unless the damage
// means nothing. No wrong byte is ever served.
func TestPackedBroken(t *testing.T) {
	testenv.Need(t, "packers")
	repo := t.TempDir()
	cases := brokenCases(t, repo)
	packTree(t, filepath.Join(testdata, "conformance", "repo", goodImage), filepath.Join(repo, goodImage), packers()...)
	m := Start(t, repo, Options{Flags: plain, Expected: []string{""}})
	listing, code := List(t, m.Dir)
	if code != 3 {
		t.Errorf("ls ends with %d, want 3", code)
	}
	if table := Run(t, "ls", m.Dir); table.Code != 3 || !strings.Contains(table.Stdout, cases[0].file) {
		t.Errorf("want %s named: %v", cases[0].file, table)
	}
	checkGood(t, m)
	withheld := map[string]bool{}
	for _, c := range cases {
		t.Run(c.image, func(t *testing.T) {
			if c.check(t, m, listing) {
				withheld[c.packer.name] = true
			}
		})
	}
	for _, p := range packers() {
		if !withheld[p.name] {
			t.Errorf("nothing of %s was withheld", p.name)
		}
	}
}

func brokenCases(t *testing.T, repo string) []brokenCase {
	t.Helper()
	raw := words(300<<10 + 17)
	diff := fixture(t, "striped/s0.diff")
	states, err := model.LoadFiles(filepath.Join(testdata, "conformance", "repo", "striped", "s0.diff"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []brokenCase
	for _, p := range packers() {
		for _, e := range []struct {
			name       string
			data, want []byte
		}{{"s0.raw", raw, raw}, {"s0.diff", diff, states["s0"].Bytes}} {
			whole := p.bytes(t, e.name, e.data)
			for _, d := range damages() {
				if d.flip && !p.sum && d.name != "magic-flipped" {
					continue
				}
				image := fmt.Sprintf("%s/%s/%s", p.name, filepath.Ext(e.name)[1:], d.name)
				c := brokenCase{image, image + "/" + e.name + p.ext, d, p, e.want}
				place(t, filepath.Join(repo, c.file), d.do(whole))
				cases = append(cases, c)
			}
		}
	}
	return cases
}

// check tells whether the case's snapshot is withheld.
func (c brokenCase) check(t *testing.T, m *Mount, listing Listing) bool {
	path := m.Image(c.image, "s0")
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	i := slices.IndexFunc(listing.Problems, func(p Problem) bool { return p.File == c.file })
	if i < 0 {
		if !c.damage.harmless(c.packer) {
			t.Errorf("nothing is said of %s; its folder holds %v", c.file, entries)
		}
		CheckImage(t, path, &model.State{Bytes: c.want, Raw: true})
		return false
	}
	p := listing.Problems[i]
	if !slices.Contains(c.damage.kinds, p.Kind) || p.Reason == "" || p.Cure == "" || p.Serving || strings.Contains(p.Cure, "FILE") {
		t.Errorf("said is %+v, want one of %q, a reason and a cure", p, c.damage.kinds)
	}
	if len(entries) > 0 {
		t.Errorf("served are %v", entries)
	}
	return true
}

// words makes bytes that can be packed to about a half, alike each time, without long
// repetitions: a byte that is changed matters.
func words(n int) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 11))
	data := make([]byte, n)
	for i := range data {
		data[i] = "0123456789abcdef"[random.IntN(16)]
	}
	return data
}

// TestPackedTwice packs what is packed already, what isn't a backup, and several files
// in one archive: nothing of it is taken for a raw image.
func TestPackedTwice(t *testing.T) {
	testenv.Need(t, "packers")
	repo := t.TempDir()
	raw := words(100_000)
	place(t, filepath.Join(repo, "good", "a.raw"), raw)
	files := map[string][]string{
		"gzip-in-zstd": {"gzip", "zstd"}, "zstd-in-gzip": {"zstd", "gzip"}, "xz-in-xz": {"xz", "xz"},
		"lz4-in-bzip2": {"lz4", "bzip2"}, "bzip2-in-tar": {"bzip2", "tar"}, "xz-in-tar.gz": {"xz", "tar.gz"},
	}
	for name, how := range files {
		inner, outer := packerOf(t, how[0]), packerOf(t, how[1])
		packed := inner.bytes(t, "a.raw", raw)
		outer.put(t, filepath.Join(repo, name+"-named"), "a.raw"+inner.ext, packed)
		outer.put(t, filepath.Join(repo, name+"-hidden"), "a.raw", packed)
	}
	zstd := packerOf(t, "zstd")
	zstd.put(t, filepath.Join(repo, "qcow2"), "a.raw", append([]byte("QFI\xfb\x00\x00\x00\x03"), raw...))
	zstd.put(t, filepath.Join(repo, "no-banner"), "a", raw)
	archive := command(t, "tar", "-cf", "-", "-C", filepath.Join(testdata, "conformance", "repo", "raw-base"), "s0.raw", "s0..s1.diff")
	place(t, filepath.Join(repo, "several", "a.raw.tar"), []byte(archive))
	zstd.put(t, filepath.Join(repo, "several-packed"), "a.raw.tar", []byte(archive))
	m := Start(t, repo, Options{Expected: []string{""}})
	listing, code := List(t, m.Dir)
	if code != 3 || len(listing.Problems) != 2*len(files)+4 {
		t.Errorf("ls ends with %d and says %v", code, listing.Problems)
	}
	for _, p := range listing.Problems {
		if p.Kind != "unsupported" || p.Reason == "" || p.Cure == "" || p.Serving {
			t.Errorf("said is %+v", p)
		}
		if _, err := fs.Stat(os.DirFS(m.Dir), "images/"+filepath.Dir(p.File)+"/latest.img"); err == nil {
			t.Errorf("%s is served", p.File)
		}
	}
	CheckImage(t, m.Image("good", "a"), &model.State{Bytes: raw, Raw: true})
}
