package archtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// TestModule checks this module.
func TestModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "module " + Module + "\n"; !strings.HasPrefix(string(mod), want) {
		t.Fatalf("go.mod does not begin with %q: the rules would see none of its packages", want)
	}
	found, err := Check(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

func TestImports(t *testing.T) {
	tests := []struct {
		file, target string
		want         string // part of the rule; "" = allowed
	}{
		{"cmd/rbdbackupfs/main.go", "rbdbackupfs/fs", ""},
		{"cmd/rbdbackupfs/main.go", "rbdbackupfs/repo", ""},
		{"cmd/rbdbackupfs/main.go", "rbdbackupfs/internal/daemon", ""},
		{"cmd/rbdbackupfs/main.go", "github.com/spf13/cobra", ""},
		{"fs/node.go", "rbdbackupfs/chain", ""},
		{"fs/node.go", "github.com/hanwen/go-fuse/v2/fs", ""},
		{"chain/view.go", "rbdbackupfs/index", ""},
		{"index/store.go", "github.com/dgraph-io/badger/v4", ""},
		{"ceph/conn.go", "C", ""},
		{"rbddiff/reader.go", "encoding/binary", ""},
		{"rbddiff/reader_test.go", "pgregory.net/rapid", ""},
		{"rbddiff/reader_test.go", "rbdbackupfs/internal/testenv", ""},
		{"ceph/conn_test.go", "rbdbackupfs/tests/cluster", ""},
		{"internal/daemon/lock.go", "rbdbackupfs/internal/progress", ""},
		{"tests/mount/mount_test.go", "rbdbackupfs/chain", ""},

		{"fs/node.go", "rbdbackupfs/restore", "fs must not import restore"},
		{"fs/node.go", "rbdbackupfs/ceph", "fs must not import ceph"},
		{"restore/file.go", "rbdbackupfs/fs", "restore must not import fs"},
		{"fs/node_linux.go", "rbdbackupfs/cmd/rbdbackupfs", "fs must not import cmd/rbdbackupfs"},
		{"chain/view.go", "rbdbackupfs/fs", "chain must not import fs"},
		{"index/store.go", "rbdbackupfs/rbddiff", "index must not import rbddiff"},
		{"index/store_test.go", "rbdbackupfs/chain", "index must not import chain"},
		{"repo/list.go", "rbdbackupfs/index", "repo must not import index"},
		{"internal/daemon/lock.go", "rbdbackupfs/chain", "internal must not import chain"},
		{"fs/node.go", "rbdbackupfs/tests/cluster", "fs must not import tests/cluster"},
		{"rbddiff/reader.go", "golang.org/x/sys/unix", "nothing but the standard library"},
		{"rbddiff/reader.go", "rbdbackupfs/internal/testenv", "rbddiff must not import internal/testenv"},
		{"chain/view.go", "github.com/dgraph-io/badger/v4", "only index may import"},
		{"cmd/rbdbackupfs/mount.go", "github.com/hanwen/go-fuse/v2/fuse", "only fs may import"},
		{"restore/rbd.go", "github.com/ceph/go-ceph/rbd", "only ceph may import"},
		{"extra/new.go", "rbdbackupfs/chain", "no place in the layers"},
	}
	for _, tt := range tests {
		got := checkImport(tt.file, tt.target)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s imports %s: %q, want %q", tt.file, tt.target, got, tt.want)
		}
	}
}

// TestCheckSees: a module with one of each violation, in files that a build on
// this machine would leave out.
func TestCheckSees(t *testing.T) {
	root := fstest.MapFS{
		"go.mod":                  {Data: []byte("module rbdbackupfs\n")},
		"repo/list.go":            {Data: []byte("//go:build windows\n\npackage repo\n\nimport _ \"rbdbackupfs/chain\"\n")},
		"chain/view_test.go":      {Data: []byte("package chain\n\nfunc f() { t.Skipf(\"no\"); time.Sleep(1) }\n")},
		"internal/testenv/env.go": {Data: []byte("package testenv\n\nfunc f() { t.Skip(\"yes\") }\n")},
		"fs/testdata/x.go":        {Data: []byte("not Go")},
		"tools/go.mod":            {Data: []byte("module rbdbackupfs/tools\n")},
		"tools/tools.go":          {Data: []byte("not Go either")},
	}
	found, err := Check(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"chain/view_test.go:3: t.Skipf: use testenv.Need, which a required capability turns into a failure",
		"chain/view_test.go:3: time.Sleep: wait for an event, or inject a clock",
		"repo/list.go:5: repo must not import chain",
	}
	if len(found) != len(want) {
		t.Fatalf("found %v, want %q", found, want)
	}
	for i, v := range found {
		if v.String() != want[i] {
			t.Errorf("violation %d is %q, want %q", i, v, want[i])
		}
	}
}

func TestCheckReportsWhatItCannotParse(t *testing.T) {
	root := fstest.MapFS{"repo/list.go": {Data: []byte("not Go")}}
	if _, err := Check(root); err == nil {
		t.Error("a file that is not Go passed")
	}
}
