package fs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// Only the user of import/ gets in, and writes.
func TestImportUser(t *testing.T) {
	testenv.Need(t, "root", "program:setpriv")
	path := filepath.Join(publicDir(t), "mnt")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	id := uint32(nobody)
	other := uint32(1234)
	write := `cp -p /proc/version "$0"/import/rbd/x && test -r "$0"/import/.jobs/1.json`
	for name, test := range map[string]struct {
		options rbdfs.Options
		works   bool
		modes   string
	}{
		"root's":         {rbdfs.Options{}, false, "700 0 0\n550 0 0\n440 0 0\n"},
		"the mount's":    {rbdfs.Options{UID: &id, GID: &id}, true, "700 65534 65534\n550 65534 65534\n440 65534 65534\n"},
		"the import's":   {rbdfs.Options{ImportUID: &id}, true, "700 65534 0\n550 65534 0\n440 65534 0\n"},
		"another's":      {rbdfs.Options{UID: &id, ImportUID: &other}, false, "700 1234 0\n550 1234 0\n440 1234 0\n"},
		"the group's":    {rbdfs.Options{ImportGID: &id}, true, "770 0 65534\n550 0 65534\n440 0 65534\n"},
		"no group":       {rbdfs.Options{GID: &id}, false, "700 0 65534\n550 0 65534\n440 0 65534\n"},
		"without rights": {rbdfs.Options{ImportUID: &id, Umask: 0o277}, false, "500 65534 0\n500 65534 0\n400 65534 0\n"},
	} {
		importer := fstest.NewImporter()
		importer.SetReport("1", "text", time.Now())
		test.options.Importer = importer
		server, err := rbdfs.Mount(path, small(), test.options)
		if err != nil {
			t.Fatal(err)
		}
		out, err := as("sh", "-ec", write, path)
		if (err == nil) != test.works {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		modes := run(t, "stat", "-c", "%a %u %g", path+"/import/rbd", path+"/import/.jobs", path+"/import/.jobs/1.json")
		if modes != test.modes {
			t.Errorf("%s: %q, want %q", name, modes, test.modes)
		}
		if err := server.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
}

// A user's own mount has no modes checked, and takes what the user writes.
func TestImportUserMount(t *testing.T) {
	if !asUserTest(t) {
		return
	}
	p, err := start(t, userFolder(t), "", asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	script := `test -w "$0"/import/rbd && cp -p /proc/version "$0"/import/rbd/x && ls "$0"/import/rbd && ! rm -rf "$0"/import/rbd`
	if out, err := as("sh", "-ec", script, p.Path); err != nil || !bytes.HasPrefix(out, []byte("ns\n")) {
		t.Errorf("%v, %s", err, out)
	}
}
