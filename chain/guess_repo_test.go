package chain

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/layout"
)

// A guessFile is a backup file, and the bytes of the image when it was made.
type guessFile struct {
	image, from, to string // what it was made from; from is empty for a full one
	raw             bool
	head            bool // doesn't name its end
	off             int  // where an increment writes data
	data            []byte
	want            []byte
	mtime           time.Time
}

// apply is what the file makes of the image that it is applied to.
func (f *guessFile) apply(parent []byte) []byte {
	if f.from == "" {
		return f.want
	}
	image := make([]byte, len(f.want))
	copy(image, parent)
	copy(image[f.off:], f.data)
	return image
}

// String tells what isn't in the name.
func (f *guessFile) String() string {
	kind := "diff"
	if f.raw {
		kind = "raw"
	}
	return fmt.Sprintf("%s of %s, %q..%q, %s, %d bytes", kind, f.image, f.from, f.to, f.mtime.UTC().Format("01-02 15:04:05"), len(f.want))
}

// guessImages are names that rules for names may stumble over.
var guessImages = []string{
	"vm1", "vm2", "vm10", "vm-1", "vm", "d0", "d1", "vm-100-disk-0", "vm-100-disk-1", "vm-101-disk-0", "web", "web-prod", "prod",
	"db-vol", "db-vol-2", "pvc-1b2c", "csi-vol-ab20240501cd-4f", "web.1", "web_1", "rbd/vm1", "ssd/vm1", "s1", "VM1", "disk.0", "db",
}

// folderImages could be anything else where they are but a part of a file's name:
// a number, a day, a word for backups. As folders they are images.
var folderImages = []string{"a", "b", "mon", "snap", "0101", "backup", "1", "latest"}

// datedImages look like an image and a day, unless a file's name has the snapshot
// as well, or they are folders.
var datedImages = []string{"vm-20230101", "vm-20230102", "vm-2023-01-01"}

// guessNames are snapshots' names in their order.
var guessNames = [][]string{
	{"s0", "s1", "s2", "s3"}, {"0101", "0102", "0103", "0104"}, {"2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"},
	{"20240501", "20240502", "20240503", "20240504"}, {"snap-20240501", "snap-20240502", "snap-20240503", "snap-20240504"},
	{"mon", "tue", "wed", "thu"}, {"1", "2", "3", "4"}, {"a", "b", "c", "d"}, {"last", "mon", "tue", "daily"},
	{"2024-05-01_0200", "2024-05-01_1400", "2024-05-02_0200", "2024-05-02_1400"},
	{"snap1", "snap2", "snap10", "snap11"}, {"x.1", "x.2", "x.3", "x.4"},
	{"s1", "s1-1", "s1-1-1", "s1-2"}, {"prod", "web", "vm1", "db"},
}

// A naming is how one repository's files are named.
type naming struct {
	dir, base []string
	sep       string
	ext       string
	upper     bool
}

func drawNaming(t *rapid.T, label string) naming {
	n := naming{
		dir: rapid.SampledFrom([][]string{
			{}, {}, {"img"}, {"date"}, {"kind"}, {"to"}, {"img", "date"}, {"img", "to"}, {"date", "img"}, {"kind", "img"}, {"img", "kind"},
			{"date", "kind"}, {"year", "month", "day"}, {"img", "year", "month", "day"}, {"backup-date"}, {"nas", "img"}, {"nas"},
		}).Draw(t, label+" dir"),
		sep:   rapid.SampledFrom([]string{"-", "_", ".", "@", "--"}).Draw(t, label+" sep"),
		ext:   rapid.SampledFrom([]string{".diff", "", ".inc", ".rbd", ".bin"}).Draw(t, label+" ext"),
		upper: rapid.Bool().Draw(t, label+" upper"),
	}
	parts := []string{"kind", "from", "to", "date", "word", "n"}
	n.base = rapid.SliceOfNDistinct(rapid.SampledFrom(parts), 0, 3, rapid.ID).Draw(t, label+" base")
	if !slices.Contains(n.dir, "img") || rapid.Bool().Draw(t, label+" both") {
		n.base = slices.Insert(n.base, rapid.IntRange(0, len(n.base)).Draw(t, label+" at"), "img")
	}
	return n
}

// name makes a path; n tells files apart that would have the same one.
func (n naming) name(f *guessFile, day, count int) string {
	kind := "inc"
	if f.from == "" {
		kind = "full"
	}
	if n.upper {
		kind = strings.ToUpper(kind)
	}
	values := map[string]string{
		"img": f.image, "from": f.from, "to": f.to, "kind": kind, "date": fmt.Sprintf("2024-05-%02d", day), "word": "backup", "n": fmt.Sprintf("%03d", count),
		"year": "2024", "month": "05", "day": fmt.Sprintf("%02d", day), "nas": "nas", "backup-date": fmt.Sprintf("backup_202405%02d", day),
	}
	fill := func(parts []string) (out []string) {
		for _, p := range parts {
			if values[p] != "" {
				out = append(out, values[p])
			}
		}
		return out
	}
	base := fill(n.base)
	if slices.Contains(n.base, "img") {
		for i, b := range base {
			base[i] = strings.ReplaceAll(b, "/", n.sep)
		}
	}
	if len(base) == 0 {
		base = []string{kind}
	}
	return filepath.Join(append(fill(n.dir), strings.Join(base, n.sep)+n.ext)...)
}

// A guessRepo is a repository of several images with the same snapshots.
type guessRepo struct {
	t     *rapid.T
	rng   *rand.Rand
	files map[string]*guessFile
	count int
}

func newGuessRepo(t *rapid.T) *guessRepo {
	return &guessRepo{t: t, rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)), files: map[string]*guessFile{}}
}

// bytes are random.
func (g *guessRepo) bytes(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(g.rng.Uint32())
	}
	return data
}

func drawGuessRepo(t *rapid.T) *guessRepo {
	g := newGuessRepo(t)
	names := rapid.SampledFrom(guessNames).Draw(t, "names")
	names = names[:rapid.IntRange(2, len(names)).Draw(t, "snapshots")]
	full, inc := drawNaming(t, "full"), drawNaming(t, "inc")
	if rapid.IntRange(0, 2).Draw(t, "alike") > 0 { // mostly one habit for both
		inc = full
	}
	choice := guessImages
	if slices.Contains(full.dir, "img") && slices.Contains(inc.dir, "img") {
		choice = slices.Concat(choice, folderImages, datedImages)
	} else if slices.Contains(full.base, "to") && slices.Contains(inc.base, "to") && len(names[0]) > 1 {
		choice = slices.Concat(choice, datedImages)
	}
	if slices.Contains(full.base, "img") || slices.Contains(inc.base, "img") {
		// Web-prod.raw may be the image web-prod, and the image web at prod.
		choice = slices.DeleteFunc(slices.Clone(choice), func(image string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return layout.HasWord(image, n) })
		})
	}
	images := rapid.SliceOfNDistinct(rapid.SampledFrom(choice), 1, 3, rapid.ID).Draw(t, "images")
	raw := rapid.Bool().Draw(t, "raw")
	if raw {
		full.ext = rapid.SampledFrom([]string{".raw", ".img", ".full", ".bin", ".bac", ""}).Draw(t, "raw ext")
	}
	mtimes := rapid.SampledFrom([]string{"daily", "shuffled", "minute", "far"}).Draw(t, "mtimes")
	for _, image := range images {
		g.image(image, names, full, inc, raw, mtimes)
	}
	return g
}

// image makes the files of one image.
func (g *guessRepo) image(image string, names []string, full, inc naming, raw bool, mtimes string) {
	size := 512 * rapid.IntRange(4, 5).Draw(g.t, "sectors")
	state := g.bytes(size)
	from := ""
	for i, to := range names {
		f := &guessFile{image: image, from: from, to: to, mtime: g.mtime(mtimes, i)}
		if i > 0 {
			f.head = i == len(names)-1 && rapid.IntRange(0, 9).Draw(g.t, "head") == 0
			f.off, f.data = 64*i, g.bytes(32)
			copy(state[f.off:], f.data)
		}
		f.want = bytes.Clone(state)
		n := inc
		if i == 0 {
			n = full
		}
		f.raw = i == 0 && raw
		g.put(n.name(f, i+1, g.count), f)
		if rapid.IntRange(0, 14).Draw(g.t, "again full") == 0 && i > 0 { // another full one, later
			again := &guessFile{image: image, to: to, want: f.want, mtime: f.mtime, raw: raw}
			g.put(full.name(again, i+1, g.count), again)
		}
		from = to
	}
}

func (g *guessRepo) mtime(how string, day int) time.Time {
	start := time.Date(2024, 5, 1, 2, 0, 0, 0, time.UTC)
	switch how {
	case "daily":
		return start.AddDate(0, 0, day)
	case "minute":
		return start.Add(time.Duration(g.rng.IntN(50)) * time.Second)
	case "far":
		return start.AddDate(0, 0, g.rng.IntN(900))
	}
	return start.AddDate(0, 0, g.rng.IntN(4))
}

// put adds a file; one that would have the name of another gets a number. What can't
// lie there is left out.
func (g *guessRepo) put(name string, f *guessFile) {
	g.count++
	if g.files[name] != nil {
		name = fmt.Sprintf("%s.%03d", name, g.count)
	}
	for other := range g.files {
		if other == name || strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return
		}
	}
	g.files[name] = f
}

// harm drops files and moves some, as people do.
func (g *guessRepo) harm() {
	for _, name := range slices.Sorted(maps.Keys(g.files)) {
		switch rapid.IntRange(0, 9).Draw(g.t, "harm") {
		case 0, 1, 2:
			delete(g.files, name)
		case 3:
			f := g.files[name]
			delete(g.files, name)
			g.put(filepath.Join(rapid.SampledFrom([]string{"old", "archive/2023", "2024-05", "full"}).Draw(g.t, "to"), name), f)
		}
	}
}
