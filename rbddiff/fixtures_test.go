package rbddiff

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
)

// loadExports unpacks testdata/exports.tar.gz once: file names like
// "cases/ok.diff" and "real/a.v2". See testdata/README.md.
var loadExports = sync.OnceValues(func() (map[string][]byte, error) {
	packed, err := os.ReadFile("testdata/exports.tar.gz")
	if err != nil {
		return nil, err
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for archive := tar.NewReader(unzipped); ; {
		head, err := archive.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[head.Name], err = io.ReadAll(archive); err != nil {
			return nil, err
		}
	}
})

// exports gives the fixtures; their bytes are shared and must not be changed.
func exports(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := loadExports()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// realExports are the names of files that rbd wrote and that are whole.
func realExports(t testing.TB) []string {
	t.Helper()
	var names []string
	for name := range exports(t) {
		switch {
		case name == "real/e.raw", name == "real/t.v2", name == "real/t.g2": // raw; cut off
		case strings.HasPrefix(name, "real/"), strings.HasPrefix(name, "cases/") && strings.HasSuffix(name, ".out"):
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// streamOnly hides everything but Read.
type streamOnly struct{ io.Reader }
