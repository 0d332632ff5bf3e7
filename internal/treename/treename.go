// Package treename maps the names in backups to file names of the mounted tree
// and back.
//
// A snapshot's name is up to 4096 arbitrary bytes, a file name is up to 255
// bytes without '/' and NUL. What a file name can't hold, and what would be
// taken for another form of the tree, is percent-encoded:
//
//	name        file               why
//	v1          v1.img
//	a/b         a%2Fb.img          not possible in a file name
//	.v1         %2Ev1.img          would be hidden
//	50%         50%25.img          the escape itself
//	latest      %6Catest.img       latest.img is a symlink
//	a..b        a.%2Eb.img         <from>..<to>.diff is a difference
//	v1.p1       v1%2Ep1.img        <snapshot>.p1.img is a partition
//	a~b         a%7Eb.img          <snapshot>~<file>.img is one of several claims
//	"a\xff\n"   a%FF%0A.img        not UTF-8, and control characters
//	""          %.img              no name at all
//
// Whatever is longer than a file name may be is cut, and ends in "%-" and 32
// hexadecimal digits of a SHA-256 of all of it. An escape is always "%" and two
// upper-case digits, so neither "%", "%~" nor "%-" is ever made by encoding.
//
// Different names give different file names; for cut ones as surely as a
// 128-bit hash does. The package knows names only, not what exists.
package treename

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Max is the length of the longest file name, in bytes.
const Max = 255

// Endings of the files of the tree.
const (
	ImageEnding     = ".img"  // a snapshot's bytes
	DiffEnding      = ".diff" // a diff stream
	ContainerEnding = ".rbd2" // a format-2 export stream
)

// Latest is the file name of the symlink to the tip of the chain. No snapshot's
// file name is equal to it.
const Latest = "latest" + ImageEnding

const (
	emptyName  = "%"  // stands for a name without bytes
	ofMark     = "~"  // between the snapshot's name and the file it is read from
	hashMark   = "%-" // between what is left of a cut name and its hash
	hashDigits = 32
	upperHex   = "0123456789ABCDEF"
)

// EncodeComponent returns the folder name for one component of an image's name.
func EncodeComponent(component string) string {
	return limit(escape(component, inComponent), "")
}

// ImageFile returns the file name of a snapshot's image. of is the base name of
// the one backup file it is read from where several claim it, else empty.
func ImageFile(name, of string) string {
	return limit(label(name, of), ImageEnding)
}

// PartitionFile returns the file name of a partition of a snapshot's image.
func PartitionFile(name, of string, number int) string {
	return limit(label(name, of), partitionEnding(number))
}

func partitionEnding(number int) string { return ".p" + strconv.Itoa(number) + ImageEnding }

// CutPartition takes a partition's file name apart: image is the file name of the
// snapshot's image, unless that was cut.
func CutPartition(file string) (image string, number int, ok bool) {
	base, found := strings.CutSuffix(file, ImageEnding)
	at := strings.LastIndexByte(base, '.')
	if !found || at < 0 || !isPartition(base[at:]) {
		return "", 0, false
	}
	number, err := strconv.Atoi(base[at+len(".p"):])
	if err != nil || base[at:]+ImageEnding != partitionEnding(number) {
		return "", 0, false // such as p01
	}
	return base[:at] + ImageEnding, number, true
}

// DecodeImageFile is the inverse of ImageFile. ok is false where ImageFile gives
// no such file name, and for names that were cut: IsCut tells these apart.
func DecodeImageFile(file string) (name, of string, ok bool) {
	base, found := strings.CutSuffix(file, ImageEnding)
	if !found || IsCut(file) {
		return "", "", false
	}
	encoded, encodedOf, hasOf := strings.Cut(base, ofMark)
	name, ok = unescape(encoded)
	if ok && hasOf {
		of, ok = unescape(encodedOf)
	}
	// Only the one canonical spelling is a name of the tree.
	return name, of, ok && ImageFile(name, of) == file
}

// DecodeComponent is the inverse of EncodeComponent, with the same limits as
// DecodeImageFile.
func DecodeComponent(folder string) (component string, ok bool) {
	if IsCut(folder) {
		return "", false
	}
	component, ok = unescape(folder)
	return component, ok && EncodeComponent(component) == folder
}

// IsCut reports whether a file or folder name of the tree ends in a hash,
// because the whole of it is too long.
func IsCut(file string) bool {
	return strings.Contains(file, hashMark)
}

// label joins the encoded halves. It is injective: no half contains ofMark.
func label(name, of string) string {
	encoded := escape(name, inName)
	if of == "" {
		return encoded
	}
	return encoded + ofMark + escape(of, inName)
}

// inName reports whether the rune r at s[i] would be taken for a form of the
// tree in a snapshot's name.
func inName(s string, i int, r rune) bool {
	switch r {
	case '~':
		return true
	case '.':
		return i == 0 || i == len(s)-1 || s[i-1] == '.' || isPartition(s[i:])
	case 'l':
		return s == "latest"
	}
	return false
}

// inComponent is inName for a component of an image's name.
func inComponent(s string, i int, r rune) bool {
	if r != '.' {
		return false
	}
	switch s[i:] {
	case ImageEnding, DiffEnding, ContainerEnding:
		return true
	}
	return i == 0
}

// isPartition reports whether s is ".p" and a number.
func isPartition(s string) bool {
	digits, found := strings.CutPrefix(s, ".p")
	return found && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// escape encodes s; special says what must be encoded besides the bytes that
// can't be in a file name.
func escape(s string, special func(s string, i int, r rune) bool) string {
	if s == "" {
		return emptyName
	}
	var b strings.Builder
	b.Grow(len(s) + len(ImageEnding))
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError && size == 1
		if invalid || r == '/' || r == '%' || unicode.IsControl(r) || special(s, i, r) {
			for _, c := range []byte(s[i : i+size]) {
				b.WriteByte('%')
				b.WriteByte(upperHex[c>>4])
				b.WriteByte(upperHex[c&15])
			}
		} else {
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// unescape is the inverse of escape, and takes more than escape gives.
func unescape(s string) (string, bool) {
	if s == emptyName {
		return "", true
	}
	if s == "" || !strings.Contains(s, "%") {
		return s, s != ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high := strings.IndexByte(upperHex, s[i+1])
		low := strings.IndexByte(upperHex, s[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), true
}

// limit adds the ending, and cuts what is too long for a file name. encoded is
// different for different names, so the hash is taken of that.
func limit(encoded, ending string) string {
	if len(encoded)+len(ending) <= Max {
		return encoded + ending
	}
	sum := sha256.Sum256([]byte(encoded))
	keep := Max - len(ending) - len(hashMark) - hashDigits
	for !utf8.RuneStart(encoded[keep]) {
		keep--
	}
	if at := strings.LastIndexByte(encoded[:keep], '%'); at >= 0 && at > keep-3 {
		keep = at // never within an escape
	}
	return encoded[:keep] + hashMark + hex.EncodeToString(sum[:])[:hashDigits] + ending
}
