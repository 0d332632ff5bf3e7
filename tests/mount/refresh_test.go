package mount

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/tests/malformed"
	"rbdbackupfs/tests/model"
)

const (
	// awaitLimit is how long a change in the repository may take to show.
	awaitLimit = 30 * time.Second
	// awaitStep is how often await looks.
	awaitStep = 20 * time.Millisecond
)

// await waits until the mount shows what the condition asks for.
func await(t *testing.T, m *Mount, what string, condition func() bool) {
	t.Helper()
	ticks := time.NewTicker(awaitStep)
	defer ticks.Stop()
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	for !condition() {
		select {
		case <-ticks.C:
		case <-limit.C:
			t.Fatalf("%s: not in %v. Problems: %+v\n%s", what, awaitLimit, m.Status().Problems, m.log())
		}
	}
}

// changing mounts a repository with one image, made from the given files, that
// the test may change.
func changing(t *testing.T, files map[string][]byte) *Mount {
	t.Helper()
	repo := t.TempDir()
	for name, data := range files {
		path := filepath.Join(repo, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Start(t, repo, Options{Changing: true, Expected: []string{""}})
}

// compiled makes a backup file from its records.
func compiled(t *testing.T, text string) []byte {
	t.Helper()
	data, err := malformed.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fixture reads a committed backup file.
func fixture(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, "conformance", "repo", path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// problemWith returns the problem that is reported for a file.
func problemWith(m *Mount, file string) (Problem, bool) {
	m.t.Helper()
	for _, p := range m.Status().Problems {
		if p.File == file {
			return p, true
		}
	}
	return Problem{}, false
}

// TestSlowCopyAppearsWhole writes an increment in pieces, as a slow copy does.
// Each piece is seen, and nothing of it is served until the last.
func TestSlowCopyAppearsWhole(t *testing.T) {
	m := changing(t, map[string][]byte{"fan/day0.diff": fixture(t, "fan/day0.diff")})
	data := fixture(t, "fan/day0..day1.diff")
	const file = "fan/day0..day1.diff"
	path, image := filepath.Join(m.Repo, file), m.Image("fan", "day1")
	day0 := load(t, m, "fan", "day0.diff")["day0"]
	const pieces = 5
	for i := range pieces {
		appendTo(t, path, data[len(data)*i/pieces:len(data)*(i+1)/pieces])
		if i == pieces-1 {
			break
		}
		await(t, m, "the unfinished file is seen", func() bool {
			p, found := problemWith(m, file)
			return found && (p.Kind == "unsettled" || p.Kind == "incomplete")
		})
		if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("after %d of %d pieces: %v, want it absent", i+1, pieces, err)
		}
		CheckImage(t, m.Image("fan", "day0"), day0)
	}
	await(t, m, "the increment appears", exists(image))
	CheckImage(t, image, load(t, m, "fan", "day0.diff", "day0..day1.diff")["day1"])
	await(t, m, "the problem goes", func() bool { _, found := problemWith(m, file); return !found })
}

// TestHiddenUntilRenamed copies under names that say "not finished" and renames.
func TestHiddenUntilRenamed(t *testing.T) {
	m := changing(t, map[string][]byte{"fan/day0.diff": fixture(t, "fan/day0.diff")})
	path := filepath.Join(m.Repo, "fan", "day0..day2.diff")
	for _, name := range []string{path + ".partial", path + ".tmp", filepath.Join(m.Repo, "fan", ".day0..day2.diff.XyZ")} {
		write(t, name, fixture(t, "fan/day0..day2.diff"))
	}
	// A file that comes later and shows is proof that the others were passed over.
	write(t, filepath.Join(m.Repo, "fan", "day0..day1.diff"), fixture(t, "fan/day0..day1.diff"))
	await(t, m, "the finished file appears", exists(m.Image("fan", "day1")))
	if _, err := os.Stat(m.Image("fan", "day2")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an unfinished file is served: %v", err)
	}
	if err := os.Rename(path+".partial", path); err != nil {
		t.Fatal(err)
	}
	await(t, m, "the renamed file appears", exists(m.Image("fan", "day2")))
}

// TestReplacedFile puts another export in the place of one that was read: the
// new bytes show, also where the kernel had the old ones in its cache.
func TestReplacedFile(t *testing.T) {
	old, replacement := bytes.Repeat([]byte("old!"), 20_000), bytes.Repeat([]byte("new?"), 20_000)
	m := changing(t, map[string][]byte{
		"vm/day.raw":       old,
		"vm/day..eve.diff": compiled(t, `diff1 f "day" t "eve" s 80000 w 100~50 e`),
	})
	eve := func(day []byte) []byte {
		data := bytes.Clone(day)
		copy(data[100:150], strings.Repeat("W", 50))
		return data
	}
	CheckImage(t, m.Image("vm", "day"), &model.State{Bytes: old, Raw: true})
	CheckImage(t, m.Image("vm", "eve"), &model.State{Bytes: eve(old), Raw: true})
	write(t, filepath.Join(m.Repo, "vm", "day.raw.tmp"), replacement)
	if err := os.Rename(filepath.Join(m.Repo, "vm", "day.raw.tmp"), filepath.Join(m.Repo, "vm", "day.raw")); err != nil {
		t.Fatal(err)
	}
	await(t, m, "the new bytes show", func() bool {
		data, err := os.ReadFile(m.Image("vm", "day"))
		if err == nil && !bytes.Equal(data, old) && !bytes.Equal(data, replacement) {
			t.Fatal("old and new bytes are mixed")
		}
		return err == nil && bytes.Equal(data, replacement)
	})
	await(t, m, "the increment follows", func() bool {
		data, err := os.ReadFile(m.Image("vm", "eve"))
		return err == nil && bytes.Equal(data, eve(replacement))
	})
	CheckImage(t, m.Image("vm", "day"), &model.State{Bytes: replacement, Raw: true})
	CheckImage(t, m.Image("vm", "eve"), &model.State{Bytes: eve(replacement), Raw: true})
}

// TestRemovedFile removes an increment, then the base, then a whole image.
func TestRemovedFile(t *testing.T) {
	files := map[string][]byte{"other/a.raw": []byte("a small image")}
	for _, name := range []string{"day0.diff", "day0..day1.diff", "day0..day2.diff"} {
		files["fan/"+name] = fixture(t, "fan/"+name)
	}
	m := changing(t, files)
	want := load(t, m, "fan", "day0.diff", "day0..day1.diff", "day0..day2.diff")
	remove(t, filepath.Join(m.Repo, "fan", "day0..day1.diff"))
	await(t, m, "day1 vanishes", absent(m.Image("fan", "day1")))
	CheckImage(t, m.Image("fan", "day0"), want["day0"])
	CheckImage(t, m.Image("fan", "day2"), want["day2"])
	remove(t, filepath.Join(m.Repo, "fan", "day0.diff"))
	await(t, m, "day2 is withheld", absent(m.Image("fan", "day2")))
	await(t, m, "its base is missed", func() bool {
		p, found := problemWith(m, "fan/day0..day2.diff")
		return found && p.Kind == "missing-parent" && strings.Contains(p.String(), "day0")
	})
	remove(t, filepath.Join(m.Repo, "other"))
	await(t, m, "the image vanishes", absent(m.Folder("other")))
}

// TestTruncatedFile cuts a backup file off while it is served. Just the ranges
// that need the lost part fail, with EIO: no zeros are made up, and no read ends
// early.
func TestTruncatedFile(t *testing.T) {
	const page = 4096
	m := changing(t, map[string][]byte{
		"vm/base.diff":    compiled(t, `diff1 t "base" s 1M w 0~64K w 128K~64K w 512K~64K e`),
		"vm/base..2.diff": compiled(t, `diff1 f "base" t "2" s 1M w 144K~40K e`),
	})
	want := load(t, m, "vm", "base.diff", "base..2.diff")
	for name, state := range want {
		CheckImage(t, m.Image("vm", name), state)
	}
	// The banner, name and size are 30 bytes, each record's head is 17.
	const lost = 160 << 10
	if err := os.Truncate(filepath.Join(m.Repo, "vm", "base.diff"), 30+17+64<<10+17+(lost-128<<10)); err != nil {
		t.Fatal(err)
	}
	gone := map[string][]model.Range{
		"base": {{Start: lost, End: 192 << 10}, {Start: 512 << 10, End: 576 << 10}},
		"2":    {{Start: 184 << 10, End: 192 << 10}, {Start: 512 << 10, End: 576 << 10}},
	}
	await(t, m, "the damage is reported", func() bool {
		p, found := problemWith(m, "vm/base.diff")
		return found && p.Kind == "damaged" && p.Cure != ""
	})
	for name, ranges := range gone {
		if got := failingPages(t, m.Image("vm", name), want[name].Bytes, page); !slices.Equal(got, ranges) {
			t.Errorf("%s: EIO in %v, want %v", name, got, ranges)
		}
	}
	if _, code := List(t, m.Dir); code != 3 {
		t.Errorf("ls ends with %d, want 3", code)
	}
}

// failingPages reads an image page by page, compares what can be read, and
// returns the ranges that give EIO. It goes round the page cache, which may
// rightly still have what was read before the loss.
func failingPages(t *testing.T, path string, want []byte, page int64) []model.Range {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var failing []model.Range
	buf := make([]byte, page)
	for off := int64(0); off < int64(len(want)); off += page {
		_, err := f.ReadAt(buf, off)
		switch {
		case errors.Is(err, syscall.EIO):
			if last := len(failing) - 1; last >= 0 && failing[last].End == off {
				failing[last].End += page
			} else {
				failing = append(failing, model.Range{Start: off, End: off + page})
			}
		case err != nil || !bytes.Equal(buf, want[off:off+page]):
			t.Fatalf("%s: page at %d: %v, or other bytes", path, off, err)
		}
	}
	return failing
}

// load rebuilds an image from some of its files.
func load(t *testing.T, m *Mount, image string, names ...string) map[string]*model.State {
	t.Helper()
	var files []string
	for _, name := range names {
		files = append(files, filepath.Join(m.Repo, image, name))
	}
	states, err := model.LoadFiles(files...)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

func absent(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return errors.Is(err, fs.ErrNotExist) }
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
