package layout

import (
	"path"
	"slices"
	"strings"
)

// Endings of names. An ending is never all of a name.
var (
	exportEndings = []string{
		".raw", ".img", ".diff", ".rbd", ".rbd2", ".rbdiff", ".export", ".full", ".inc", ".bin", ".bac", ".bak", ".dump", ".image",
		".qcow2", // what was converted from one
	}
	packedEndings = []string{".gz", ".zst", ".zstd", ".lz4", ".xz", ".bz2"}
	tarEndings    = []string{".tar", ".tgz", ".tzst", ".tlz4", ".txz", ".tbz2", ".tbz"}
	otherEndings  = []string{".lzma", ".lz", ".lzo", ".z", ".zz", ".7z", ".zip", ".br", ".rar", ".sz"}
)

// Bare is the base name of a file without all endings that say how it was made.
func Bare(name string) string {
	base := unpacked(path.Base(name))
	for {
		rest, found := cutEnding(base, exportEndings)
		if !found {
			return base
		}
		base = rest
	}
}

// Unpacked is the name of what is in a compressed file, or in an archive.
func Unpacked(name string) string {
	rest, _ := CutTar(name)
	rest, _ = cutEnding(rest, packedEndings)
	return rest
}

// unpacked is the same with endings of what nothing here can read.
func unpacked(name string) string {
	rest, _ := cutEnding(Unpacked(name), otherEndings)
	return rest
}

// CutTar takes the ending of an archive from a name.
func CutTar(name string) (rest string, isTar bool) {
	inner, _ := cutEnding(name, packedEndings)
	if rest, isTar = cutEnding(inner, tarEndings); isTar {
		return rest, true
	}
	return name, false
}

// NamedPacked tells whether a file is called like a packed one, also of a kind that
// nothing here can read.
func NamedPacked(name string) bool {
	_, other := cutEnding(name, otherEndings)
	return other || Unpacked(name) != name
}

func cutEnding(name string, endings []string) (rest string, found bool) {
	ext := path.Ext(name)
	low := strings.ToLower(ext)
	numbered := strings.TrimRight(low, "0123456789") // as in .inc1
	if len(ext) == len(path.Base(name)) || !slices.Contains(endings, low) && !slices.Contains(endings, numbered) {
		return name, false
	}
	return strings.TrimSuffix(name, ext), true
}
