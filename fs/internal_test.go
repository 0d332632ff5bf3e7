package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rbdbackupfs/chain"
)

func TestErrnoTable(t *testing.T) {
	missingFile := &iofs.PathError{Op: "open", Path: "/backup/vm/full", Err: syscall.ENOENT}
	tests := map[string]struct {
		err  error
		want syscall.Errno
	}{
		"not found":                 {chain.ErrNotFound, syscall.ENOENT},
		"wrapped":                   {fmt.Errorf("image x: %w", chain.ErrNotFound), syscall.ENOENT},
		"pending":                   {fmt.Errorf("image x: %w", chain.ErrPending), syscall.EAGAIN},
		"damaged":                   {fmt.Errorf("at 5: %w", chain.ErrDamaged), syscall.EIO},
		"damaged, file missing":     {fmt.Errorf("%w: %w", chain.ErrDamaged, missingFile), syscall.EIO},
		"backup file missing":       {missingFile, syscall.EIO},
		"not found, file missing":   {fmt.Errorf("%w: %w", chain.ErrNotFound, missingFile), syscall.EIO},
		"bytes not found":           {fmt.Errorf("%w: %w", errBytes, chain.ErrNotFound), syscall.EIO},
		"no data":                   {chain.ErrNoData, syscall.ENXIO},
		"entry gone":                {fmt.Errorf("%w: %w", errGone, chain.ErrNotFound), syscall.ESTALE},
		"interrupted":               {context.Canceled, syscall.EINTR},
		"out of time":               {context.DeadlineExceeded, syscall.EAGAIN},
		"closed":                    {chain.ErrClosed, syscall.EIO},
		"short":                     {errShort, syscall.EIO},
		"unexpected end":            {io.ErrUnexpectedEOF, syscall.EIO},
		"permission":                {os.ErrPermission, syscall.EIO},
		"an errno of a backup file": {syscall.ENXIO, syscall.EIO},
		"anything":                  {errors.New("anything"), syscall.EIO},
	}
	for name, test := range tests {
		if got, _ := classify(test.err); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	var none *tree
	if got := none.errno("read", location{}, nil); got != 0 {
		t.Errorf("nil: %v", got)
	}
}

func TestLogLimit(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	limit := newLogLimit(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	say := func(key string, times int) string {
		out.Reset()
		for range times {
			limit.log(slog.LevelError, key, "message")
		}
		return out.String()
	}
	if got := strings.Count(say("a", 10), "message"); got != logPerKey {
		t.Errorf("%d messages of one key", got)
	}
	if got := say("b", 1); !strings.Contains(got, "suppressed=7") {
		t.Errorf("another key: %q, want that 7 were suppressed", got)
	}
	total := logPerKey + 1
	for i := range 1000 {
		total += strings.Count(say(fmt.Sprint(i), 1), "message")
	}
	if total != logPerMount {
		t.Errorf("%d messages of all, want %d", total, logPerMount)
	}
	now = now.Add(logWindow)
	if got := say("a", 1); strings.Count(got, "message") != 1 {
		t.Errorf("in the next window: %q", got)
	}
	say("a", 5)
	out.Reset()
	limit.flush()
	if !strings.Contains(out.String(), "suppressed=3") {
		t.Errorf("at the end: %q", out.String())
	}
}

func TestParseMountinfo(t *testing.T) {
	const text = `22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 0:31 /sub\040folder /mnt/a\040b rw,nosuid shared:4 master:2 - fuse.rbdbackupfs /srv/back\134up rw,user_id=0
37 22 0:32 / /x rw - tmpfs tmpfs rw
no mount at all
`
	want := []mountEntry{
		{22, "259:1", "/", "/", "ext4", "/dev/root"},
		{36, "0:31", "/sub folder", "/mnt/a b", "fuse.rbdbackupfs", `/srv/back\up`},
		{37, "0:32", "/", "/x", "tmpfs", "tmpfs"},
	}
	if diff := cmp.Diff(want, parseMountinfo([]byte(text)), cmp.AllowUnexported(mountEntry{})); diff != "" {
		t.Error(diff)
	}
}

func TestInside(t *testing.T) {
	mounts := []mountEntry{
		{path: "/", dev: "8:1", root: "/"}, {path: "/mnt", dev: "8:2", root: "/"}, {path: "/bind", dev: "8:2", root: "/a"},
		{path: "/mnt", dev: "8:3", root: "/"}, // over the other
	}
	for path, want := range map[string]string{
		"/": "8:1 /", "/x": "8:1 /x", "/mnt": "8:3 /", "/mnt/y": "8:3 /y", "/bind/c": "8:2 /a/c", "/binder": "8:1 /binder",
	} {
		dev, inner := place{path: path, mounts: mounts}.inside()
		if dev+" "+inner != want {
			t.Errorf("%s: %s %s, want %s", path, dev, inner, want)
		}
	}
}

func TestSplitOptions(t *testing.T) {
	want := []string{"ro", `fsname=a,b\c`, "", "x="}
	if diff := cmp.Diff(want, splitOptions(`ro,fsname=a\,b\\c,,x=`)); diff != "" {
		t.Error(diff)
	}
}

func TestConfAllowsOther(t *testing.T) {
	file := t.TempDir() + "/fuse.conf"
	for text, want := range map[string]bool{
		"#user_allow_other\n": false, "mount_max = 5\n user_allow_other \n": true, "": false, "user_allow_other": true,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := confAllowsOther(file); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if confAllowsOther(file + ".missing") {
		t.Error("a missing file allows it")
	}
}

// Different entries have different numbers, as far as the serial goes.
func TestMakeIno(t *testing.T) {
	kind := rapid.SampledFrom([]inoKind{inoRoot, inoFolder, inoImage, inoLatest, inoImportFolder, inoImportFile, inoJob})
	serial := rapid.Uint64Range(0, inoMaxSerial)
	rapid.Check(t, func(t *rapid.T) {
		k1, s1, p1 := kind.Draw(t, "kind"), serial.Draw(t, "serial"), rapid.Uint8().Draw(t, "part")
		k2, s2, p2 := kind.Draw(t, "kind"), serial.Draw(t, "serial"), rapid.Uint8().Draw(t, "part")
		a, b := makeIno(k1, s1, p1), makeIno(k2, s2, p2)
		if (a == b) != (k1 == k2 && s1 == s2 && p1 == p2) || a>>63 != 0 || a <= 1 {
			t.Fatalf("(%d %d %d) %#x, (%d %d %d) %#x", k1, s1, p1, a, k2, s2, p2, b)
		}
	})
}

func TestBlocks(t *testing.T) {
	for bytes, want := range map[int64]uint64{0: 0, 1: 1, 512: 1, 513: 2, 1 << 44: 1 << 35, -1: 0} {
		if got := blocks(bytes); got != want {
			t.Errorf("blocks(%d) = %d, want %d", bytes, got, want)
		}
	}
}

// names is a library as far as folders go.
type names []string

func (n *names) Names() []string { return *n }

// A folder keeps its number while it is there, and has another when it is back.
func TestFolderIndex(t *testing.T) {
	list := names{"a/b", "c"}
	index := newFolderIndex(&list)
	a, b := index.get("a").ino(wingImages), index.get("a/b").ino(wingImages)
	list = names{"a", "a/b", "a/b.img", "b", "c"}
	if index.get("b") != nil {
		t.Error("built anew, though nothing was said to have changed")
	}
	index.invalidate()
	if index.get("a").ino(wingImages) != a || index.get("a/b").ino(wingImages) != b || !index.get("a").isImage {
		t.Error("folders that stayed have changed")
	}
	if f := index.get("a").child("b%2Eimg"); f == nil || f.path != "a/b.img" || f.parentIno(wingImages) != a {
		t.Errorf("child: %+v", f)
	}
	list = names{"c"}
	index.invalidate()
	if index.get("a") != nil || index.get("").child("a") != nil {
		t.Error("folders that are gone are still there")
	}
	list = names{"a/b"}
	index.invalidate()
	if now := index.get("a").ino(wingImages); now == a || index.get("a/b").ino(wingImages) == b {
		t.Error("folders that came back have their old numbers")
	}
}
