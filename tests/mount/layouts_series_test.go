package mount

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rbdbackupfs/tests/model"
	"rbdbackupfs/tests/scenario"
)

// A series is a committed chain of exports under other snapshots' names, as if an
// image had been backed up daily: the real files, but for the names in their headers.
type series struct {
	t      *testing.T
	folder string // of the committed chain, whose snapshots are s0, s1 and so on
	names  []string
	sums   map[string]scenario.Expect
	states map[string]*model.State
}

func newSeries(t *testing.T, folder string, names ...string) *series {
	t.Helper()
	s := &series{t: t, folder: folder, names: names, sums: map[string]scenario.Expect{}}
	for _, e := range readSums(t, "conformance") {
		if e.Image == folder {
			s.sums[e.Snapshot] = e
		}
	}
	var err error
	if s.states, err = model.Load(filepath.Join(testdata, "conformance", "repo", folder)); err != nil {
		t.Fatal(err)
	}
	return s
}

// diff is the full export of the first snapshot, or what changed from the one
// before to the snapshot.
func (s *series) diff(i int) []byte {
	s.t.Helper()
	if i == 0 {
		return withNames(s.t, fixture(s.t, s.folder+"/s0.diff"), "", s.names[0])
	}
	return withNames(s.t, fixture(s.t, fmt.Sprintf("%s/s%d..s%d.diff", s.folder, i-1, i)), s.names[i-1], s.names[i])
}

// full is `rbd export-diff` without a start.
func (s *series) full(i int) []byte {
	s.t.Helper()
	if i == 0 {
		return s.diff(0)
	}
	data := s.raw(i)
	head := compiled(s.t, fmt.Sprintf(`diff1 t %q s %d`, s.names[i], len(data)))
	head = binary.LittleEndian.AppendUint64(append(head, 'w'), 0)
	return append(append(binary.LittleEndian.AppendUint64(head, uint64(len(data))), data...), 'e')
}

// raw is `rbd export`.
func (s *series) raw(i int) []byte {
	s.t.Helper()
	return s.states[fmt.Sprintf("s%d", i)].Bytes
}

// toHead is what diff gives where the image itself was exported, and not a snapshot.
func (s *series) toHead(i int) []byte {
	s.t.Helper()
	return withNames(s.t, s.diff(i), s.names[i-1], "")
}

// expect is what rbd export gave for a snapshot, under the name that the tree shows.
func (s *series) expect(i int, image, label string) scenario.Expect {
	s.t.Helper()
	e, found := s.sums[fmt.Sprintf("s%d", i)]
	if !found {
		s.t.Fatalf("%s has no s%d", s.folder, i)
	}
	e.Image, e.Snapshot = image, label
	return e
}

// all is what an image shows of which all snapshots are there.
func (s *series) all(image string) (list []scenario.Expect) {
	s.t.Helper()
	for i, name := range s.names {
		list = append(list, s.expect(i, image, name))
	}
	return list
}

// withNames puts other names into the header of a diff v1; "" leaves the record out.
func withNames(t *testing.T, data []byte, from, to string) []byte {
	t.Helper()
	rest, found := bytes.CutPrefix(data, []byte(model.BannerDiff1))
	if !found {
		t.Fatal("no diff v1")
	}
	for len(rest) > 5 && (rest[0] == 'f' || rest[0] == 't') {
		rest = rest[5+binary.LittleEndian.Uint32(rest[1:]):]
	}
	out := []byte(model.BannerDiff1)
	for _, r := range []struct {
		tag  byte
		name string
	}{{'f', from}, {'t', to}} {
		if r.name != "" {
			out = binary.LittleEndian.AppendUint32(append(out, r.tag), uint32(len(r.name)))
			out = append(out, r.name...)
		}
	}
	return append(out, rest...)
}

// A tree is the files of a repository.
type tree map[string][]byte

// write makes the files; their times are a day apart, in the given order. Those
// that aren't in it are newer, in the order of their names.
func (f tree) write(t *testing.T, repo string, order ...string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	at := time.Date(2024, 5, 1, 2, 0, 0, 0, time.UTC)
	for _, name := range order {
		path := filepath.Join(repo, name)
		place(t, path, f[name])
		setTime(t, path, at)
		at = at.AddDate(0, 0, 1)
	}
}

func setTime(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// checkSums compares what is served with what rbd export gave.
func checkSums(t *testing.T, m *Mount, expects []scenario.Expect) {
	t.Helper()
	for _, e := range expects {
		CheckSum(t, m.Image(e.Image, e.Snapshot), e.SHA256, e.Size)
	}
}

// served lists IMAGE@LABEL of all snapshots that ls has.
func served(l Listing) (list []string) {
	for _, img := range l.Images {
		for _, s := range img.Snapshots {
			list = append(list, img.Name+"@"+s.Label)
		}
	}
	slices.Sort(list)
	return list
}

func labels(expects []scenario.Expect) (list []string) {
	for _, e := range expects {
		list = append(list, e.Image+"@"+e.Snapshot)
	}
	slices.Sort(list)
	return list
}

// cureOf returns the line of ls that says why something isn't served.
func cureOf(t *testing.T, repo, what string) string {
	t.Helper()
	return lineOf(t, complaints(t, repo), what)
}

// complaints is what ls prints, which must find something wrong.
func complaints(t *testing.T, repo string) string {
	t.Helper()
	r := Run(t, "ls", repo, "--index", ":memory:")
	if r.Code != 3 {
		t.Fatalf("want status 3: %v", r)
	}
	return r.Stdout
}

func lineOf(t *testing.T, text, what string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, what+": ") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no line tells of %s in\n%s", what, text)
	return ""
}

// linkFlag is a flag as a message prints it: up to the end of the shell's word.
var linkFlag = regexp.MustCompile(`--link ('[^']*'|\\.|[^\s',;])+`)

// typed is what a shell makes of the flags that a message prints.
func typed(t *testing.T, message string) []string {
	t.Helper()
	flag := linkFlag.FindString(message)
	if flag == "" {
		t.Fatalf("no --link in %q", message)
	}
	return strings.Split(strings.TrimSuffix(command(t, "sh", "-c", `printf '%s\n' `+flag), "\n"), "\n")
}
