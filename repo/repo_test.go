package repo

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenResolvesLinks(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "backups of vm")
	must(t, os.Mkdir(folder, 0o755))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(folder, link))

	direct, linked := open(t, folder, Options{}), open(t, link+"/.", Options{})
	if linked.Root() != direct.Root() || linked.Root() != folder {
		t.Errorf("roots %q and %q, want both %q", direct.Root(), linked.Root(), folder)
	}
	if linked.ID() != direct.ID() {
		t.Errorf("ids %q and %q differ", direct.ID(), linked.ID())
	}
	if !regexp.MustCompile(`^backups_of_vm-[0-9a-f]{12}$`).MatchString(direct.ID()) {
		t.Errorf("id %q", direct.ID())
	}
}

func TestIDs(t *testing.T) {
	for path, want := range map[string]string{
		"/":                                "repo-8a5edab28263",
		"/srv/rbd":                         "rbd-",
		"/srv/.hidden":                     "hidden-",
		"/mnt/Bäckup":                      "B_ckup-",
		"/x/" + strings.Repeat("long", 50): strings.Repeat("long", 50)[:47] + "-",
	} {
		if id := idOf(path); !strings.HasPrefix(id, want) || len(id) > 60 {
			t.Errorf("idOf(%q) = %q, want %s…", path, id, want)
		}
	}
	if idOf("/a/rbd") == idOf("/b/rbd") {
		t.Error("two folders of the same name have the same id")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "file", "x")
	for rel, want := range map[string]error{"none": unix.ENOENT, "file": unix.ENOTDIR} {
		_, err := Open(filepath.Join(dir, rel), Options{})
		var typed *Error
		if !errors.Is(err, want) || !errors.As(err, &typed) {
			t.Errorf("Open(%s) = %v, want an *Error for %v", rel, err, want)
		}
	}
}

func TestErrorsSayWhatHelps(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "x")
	r := open(t, dir, Options{})
	_, err := r.OpenFile("b", Pin{})
	var typed *Error
	if !errors.As(err, &typed) || typed.Path != filepath.Join(dir, "b") || typed.Hint == "" {
		t.Errorf("%#v has no path or no hint", err)
	}
	if !errors.Is(err, ErrGone) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v is neither ErrGone nor ENOENT", err)
	}
}

func TestNetworkFilesystems(t *testing.T) {
	for magic, want := range map[uint32]filesystem{
		0x6969: fsNetwork, 0xFF534D42: fsNetwork, 0xFE534D42: fsNetwork, 0x00C36400: fsNetwork,
		0x65735546: fsNetwork, 0x01021997: fsNetwork, 0x47504653: fsNetwork,
		0xEF53: fsLease, 0x58465342: fsLease, 0x01021994: fsLease,
		0x12345678: fsOther,
	} {
		if got := filesystemByMagic(magic); got != want {
			t.Errorf("%#x is %d, want %d", magic, got, want)
		}
	}
}
