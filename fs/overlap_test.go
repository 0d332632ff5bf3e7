package fs_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
	"rbdbackupfs/internal/testenv"
)

// folders makes folders below a new one.
func folders(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheckOverlap(t *testing.T) {
	dir := folders(t, "repo/sub", "repo2", "other/deep")
	for link, target := range map[string]string{"link": "repo", "into": "repo/sub", "up": "."} {
		if err := os.Symlink(filepath.Join(dir, target), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		repo, index, mount string
		overlap            bool
	}{
		"apart":                       {"repo", "other", "repo2", false},
		"siblings with a prefix":      {"repo", "repo2", "other", false},
		"index isn't there yet":       {"repo", "other/new/index", "repo2", false},
		"mount in repo":               {"repo", "other", "repo/sub", true},
		"repo in mount":               {"repo/sub", "other", "repo", true},
		"same":                        {"repo", "other", "repo", true},
		"mount through a symlink":     {"repo", "other", "link", true},
		"into repo through a symlink": {"repo", "other", "into", true},
		"repo through a symlink":      {"link", "other", "repo/sub", true},
		"index in repo, not there":    {"repo", "repo/new/index", "other", true},
		"index not there, symlink":    {"repo", "into/new", "other", true},
		"index in mount":              {"repo", "other/deep", "other", true},
		"dots":                        {"repo", "other", "other/../repo/./sub", true},
		"all in mount":                {"repo", "other", "up", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := rbdfs.CheckOverlap(
				rbdfs.Place{Name: "REPO", Path: filepath.Join(dir, test.repo)},
				rbdfs.Place{Name: "index", Path: filepath.Join(dir, test.index)},
				rbdfs.Place{Name: "MOUNT", Path: dir + "/" + test.mount})
			switch {
			case test.overlap:
				wantError(t, err, rbdfs.ErrOverlap, dir)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

func TestCheckOverlapMessage(t *testing.T) {
	dir := folders(t, "repo/sub")
	err := rbdfs.CheckOverlap(rbdfs.Place{Name: "REPO", Path: dir + "/repo"}, rbdfs.Place{Name: "MOUNT", Path: dir + "/repo/sub"})
	want := "check " + dir + "/repo/sub: MOUNT is or lies in REPO " + dir + "/repo: folders overlap. " +
		"Use a folder for MOUNT that has nothing to do with REPO"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// Bind mounts have other paths and are the same folders.
func TestCheckOverlapBindMounts(t *testing.T) {
	testenv.Need(t, "root")
	dir := folders(t, "data/repo/sub/deep", "whole", "part", "other")
	for from, to := range map[string]string{"data": "whole", "data/repo/sub": "part"} {
		to = filepath.Join(dir, to)
		if err := syscall.Mount(filepath.Join(dir, from), to, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(to, 0); err != nil {
				t.Error(err)
			}
		})
	}
	repo := rbdfs.Place{Name: "REPO", Path: dir + "/data/repo"}
	for mount, overlap := range map[string]bool{
		"whole": true, "whole/repo": true, "whole/repo/sub": true, "part": true, "part/deep": true, "part/new": true, "other": false,
	} {
		err := rbdfs.CheckOverlap(repo, rbdfs.Place{Name: "MOUNT", Path: filepath.Join(dir, mount)})
		if overlap {
			if err == nil {
				t.Errorf("%s: no overlap", mount)
			}
		} else if err != nil {
			t.Errorf("%s: %v", mount, err)
		}
	}
}

// A repository in a mounted tree, for instance a copied-out one, is found too.
func TestCheckOverlapMounted(t *testing.T) {
	m := fstest.NewMount(t, small(), rbdfs.Options{})
	wantError(t, rbdfs.CheckOverlap(rbdfs.Place{Name: "REPO", Path: m.Images()}, rbdfs.Place{Name: "MOUNT", Path: m.Path}),
		rbdfs.ErrOverlap)
}
