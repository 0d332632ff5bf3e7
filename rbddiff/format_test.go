package rbddiff

import (
	"errors"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	tests := []struct {
		prefix string
		want   Format
	}{
		{"rbd diff v1\ne", DiffV1},
		{"rbd diff v2\ne", DiffV2},
		{"rbd image v2\n", Container},
		{"r", RBDPrefix},
		{"rbd diff v1", RBDPrefix},
		{"rbd image v2", RBDPrefix},
		{"rbd diff v3\n", RBDOther},
		{"rbd diff v1\r\n", RBDOther},
		{"rbd image v3\n", RBDOther},
		{"rbd image diffs v2\n"[:DetectLen], RBDOther},
		{"", Unknown},
		{"RBD DIFF v1\n", Unknown},
		{"rbd", RBDPrefix},
		{"rbd!", Unknown},
		{"\x1f\x8b\x08\x00", Gzip},
		{"\x1f\x8b\x07\x00", Unknown},
		{"\x28\xb5\x2f\xfd", Zstd},
		{"\x50\x2a\x4d\x18", Zstd},
		{"\x5f\x2a\x4d\x18\x04", Zstd},
		{"\x60\x2a\x4d\x18", Unknown},
		{"\x04\x22\x4d\x18", LZ4},
		{"\x02\x21\x4c\x18", LZ4},
		{"\xfd7zXZ\x00", XZ},
		{"BZh91AY&SY", Bzip2},
		{"BZh1\x17\x72\x45\x38\x50\x90", Bzip2},
		{"BZh9 is text", Unknown},
		{"\x89LZO\x00\r\n\x1a\n", Lzop},
		{"7z\xbc\xaf\x27\x1c", SevenZip},
		{"QFI\xfb\x00\x00\x00\x03", Qcow2},
		{"KDMV", VMDK},
		{"vhdxfile", VHDX},
		{"conectix", VHD},
		{"LUKS\xba\xbe", Unknown}, // an encrypted image is raw
		{"XFSB", Unknown},
		{strings.Repeat("\x00", DetectLen), Unknown},
	}
	seen := make(map[Format]bool)
	for _, test := range tests {
		if got := Detect([]byte(test.prefix)); got != test.want {
			t.Errorf("%q: %v, want %v", test.prefix, got, test.want)
		}
		seen[test.want] = true
	}
	names := make(map[string]bool)
	for f := Unknown; f <= VHD; f++ {
		if readable := f == DiffV1 || f == Container; !seen[f] || names[f.String()] || (f.Hint() == "") != readable {
			t.Errorf("%d: %q with hint %q, tested: %v", f, f, f.Hint(), seen[f])
		}
		names[f.String()] = true
	}
}

// TestOtherFormats: the error names the format and the command that helps.
func TestOtherFormats(t *testing.T) {
	_, err := NewReader(strings.NewReader("\x28\xb5\x2f\xfd and what follows"))
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrUnsupported) || !strings.Contains(e.Reason, "zstd") || !strings.Contains(e.Hint, "zstd -dc") {
		t.Errorf("%+v", e)
	}
	if _, err := NewDiffReader(strings.NewReader(""), Gzip, 0); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := NewWriter(nil, DiffV2); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

func TestStrings(t *testing.T) {
	for kind := invalidKind; kind <= End; kind++ {
		if strings.HasPrefix(kind.String(), "kind") {
			t.Errorf("%d has no name", kind)
		}
	}
	tests := map[string]Record{
		"data 4096~512 at 35":    {Kind: Data, Offset: 4096, Length: 512, Pos: 35},
		`end snapshot "a" at 12`: {Kind: To, Name: "a", Pos: 12},
		"size 7 at 18":           {Kind: Size, Size: 7, Pos: 18},
		"end at 99":              {Kind: End, Pos: 99},
		"kind 77 at 0":           {Kind: 77},
	}
	for want, rec := range tests {
		if got := rec.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
