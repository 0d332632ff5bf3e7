package mount

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/model"
	"rbdbackupfs/tests/scenario"
)

// packedSets are what TestPackedExports packs, and what it expects.
type packedSets struct {
	repo    string
	expects []scenario.Expect
	plain   map[string]string // by image: the folder with the same files, not packed
}

// add packs a part of the committed backups, "" for all of them, into a folder.
func (s *packedSets) add(t *testing.T, part, folder string, with ...packer) {
	t.Helper()
	const set = "conformance"
	from := filepath.Join(testdata, set, "repo")
	packTree(t, filepath.Join(from, part), filepath.Join(s.repo, folder, part), with...)
	for _, e := range readSums(t, set) {
		if part != "" && e.Image != part {
			continue
		}
		plain := filepath.Join(from, e.Image)
		e.Image = filepath.Join(folder, e.Image)
		s.plain[e.Image] = plain
		s.expects = append(s.expects, e)
	}
}

// TestPackedExports packs every committed backup, with one program after the
// other, and a chain with a raw export and one with a container with each of them.
// What is mounted has to be what `rbd export` gave, and stays so with what the index
// remembers of it, without another look at the files.
func TestPackedExports(t *testing.T) {
	testenv.Need(t, "packers")
	s := &packedSets{repo: t.TempDir(), plain: map[string]string{}}
	s.add(t, "", "all", packers()...)
	for _, p := range packers() {
		for _, part := range []string{"raw-base", "container"} {
			s.add(t, part, "by/"+p.name, p)
		}
	}
	// One folder is called increments, and one snapshot latest.
	m := Start(t, s.repo, Options{Flags: append(plain, trusting.Flags...)})
	images := byImage(s.expects)
	checkMountLine(t, m, len(images), len(s.expects))
	checkListing(t, m, images)
	for name, snapshots := range images {
		checkFolder(t, m, name, snapshots)
		states, err := model.Load(s.plain[name])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range snapshots {
			CheckImage(t, m.Image(e.Image, e.Snapshot), states[e.Snapshot])
		}
	}
	for _, p := range packers() {
		for _, part := range []string{"raw-base", "container"} {
			checkFormats(t, m, "by/"+p.name+"/"+part, p)
		}
	}
	s.checkAgain(t, m)
}

// checkAgain mounts once more: nothing is unpacked for that, and the bytes are the
// same as ever.
func (s *packedSets) checkAgain(t *testing.T, m *Mount) {
	if r := Run(t, "umount", m.Dir); r.Code != 0 {
		t.Fatal(r)
	}
	m.assertExited()
	reads := watchReads(t, m.Repo)
	m.Again()
	checkListing(t, m, byImage(s.expects))
	if read := reads(); len(read) > 0 {
		t.Errorf("mounted with the index of before, it reads %q", read)
	}
	for _, e := range s.expects {
		CheckSum(t, m.Image(e.Image, e.Snapshot), e.SHA256, e.Size)
	}
	if read := reads(); len(read) == 0 {
		t.Error("no file is read for reading images: the check before this one is blind")
	}
}

// checkFormats compares what `ls IMAGE` calls the files.
func checkFormats(t *testing.T, m *Mount, image string, p packer) {
	t.Helper()
	var listing struct {
		Images []struct {
			Files []struct{ Path, Format string }
		}
	}
	r := Run(t, "ls", "--json", m.Dir, image)
	if err := json.Unmarshal([]byte(r.Stdout), &listing); err != nil || r.Code != 0 || len(listing.Images) != 1 {
		t.Fatalf("%v: %v", r, err)
	}
	names := map[string]string{".raw": "raw", ".diff": "rbd diff v1", ".rbd2": "rbd export format 2"}
	seen := map[string]bool{}
	for _, f := range listing.Images[0].Files {
		kind := filepath.Ext(strings.TrimSuffix(f.Path, p.ext))
		seen[kind] = true
		if want := names[kind] + " in " + p.codec; f.Format != want {
			t.Errorf("%s is %q, want %q", f.Path, f.Format, want)
		}
	}
	if !seen[".diff"] || !seen[".raw"] && !seen[".rbd2"] {
		t.Errorf("%s: %v", image, listing.Images[0].Files)
	}
}

// watchReads tells which files in a folder tree are read by anybody, from one call
// of the result to the next.
func watchReads(t *testing.T, root string) func() []string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	dirs := map[int32]string{}
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_ACCESS)
		dirs[int32(wd)] = path
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		t.Helper()
		var read []string
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EAGAIN) {
				slices.Sort(read)
				return slices.Compact(read)
			}
			if err != nil {
				t.Fatal(err)
			}
			for rest := buf[:n]; len(rest) > 0; {
				event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
				name := rest[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+event.Len]
				rest = rest[unix.SizeofInotifyEvent+event.Len:]
				if event.Mask&unix.IN_ISDIR == 0 {
					read = append(read, filepath.Join(dirs[event.Wd], strings.TrimRight(string(name), "\x00")))
				}
			}
		}
	}
}
