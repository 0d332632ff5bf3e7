package treename_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/treename"
)

func TestImageFile(t *testing.T) {
	long := strings.Repeat("x", 4096)
	tests := map[string]struct{ name, of, want string }{
		"plain":             {name: "v1", want: "v1.img"},
		"dates":             {name: "backup_2024-01-02T03:04:05", want: "backup_2024-01-02T03:04:05.img"},
		"slash":             {name: "a/b", want: "a%2Fb.img"},
		"dot dot":           {name: "..", want: "%2E%2E.img"},
		"dot":               {name: ".", want: "%2E.img"},
		"dot dot slash":     {name: "../x", want: "%2E%2E%2Fx.img"},
		"newline":           {name: "a\nb", want: "a%0Ab.img"},
		"at":                {name: "a@b", want: "a@b.img"},
		"space":             {name: "a b", want: "a b.img"},
		"nul":               {name: "a\x00b", want: "a%00b.img"},
		"nul only":          {name: "\x00", want: "%00.img"},
		"empty":             {name: "", want: "%.img"},
		"empty of":          {name: "", of: "f", want: "%~f.img"},
		"not utf-8":         {name: "a\xff\xfe", want: "a%FF%FE.img"},
		"half a rune":       {name: "\xc3", want: "%C3.img"},
		"unicode":           {name: "schön-日本", want: "schön-日本.img"},
		"replacement rune":  {name: "\ufffd", want: "\ufffd.img"},
		"c1 control":        {name: "a\u0085b", want: "a%C2%85b.img"},
		"hidden":            {name: ".v1", want: "%2Ev1.img"},
		"hidden partition":  {name: ".p1", want: "%2Ep1.img"},
		"partition":         {name: "v1.p1", want: "v1%2Ep1.img"},
		"partition 12":      {name: "v1.p12", want: "v1%2Ep12.img"},
		"no partition":      {name: "v1.p", want: "v1.p.img"},
		"no partition 2":    {name: "v1.p1x", want: "v1.p1x.img"},
		"escape":            {name: "%41", want: "%2541.img"},
		"tilde":             {name: "~", want: "%7E.img"},
		"of":                {name: "daily", of: "full-1.img", want: "daily~full-1.img.img"},
		"of with a tilde":   {name: "a~b", of: "c~d", want: "a%7Eb~c%7Ed.img"},
		"latest":            {name: "latest", want: "%6Catest.img"},
		"latest of":         {name: "latest", of: "a", want: "%6Catest~a.img"},
		"not latest":        {name: "latest2", want: "latest2.img"},
		"range":             {name: "a..b", want: "a.%2Eb.img"},
		"ends in a dot":     {name: "a.", want: "a%2E.img"},
		"an ending of ours": {name: "a.img", want: "a.img.img"},
		"longest":           {name: long[:251], want: long[:251] + ".img"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := treename.ImageFile(test.name, test.of)
			if got != test.want {
				t.Fatalf("ImageFile(%q, %q) = %q, want %q", test.name, test.of, got, test.want)
			}
			gotName, gotOf, ok := treename.DecodeImageFile(got)
			if !ok || gotName != test.name || gotOf != test.of {
				t.Fatalf("DecodeImageFile(%q) = %q, %q, %v", got, gotName, gotOf, ok)
			}
		})
	}
}

// A cut name ends neither within an escape nor within a rune.
func TestImageFileCut(t *testing.T) {
	x := strings.Repeat("x", 4096)
	tests := map[string]struct{ name, of, prefix string }{
		"one past":         {name: x[:252], prefix: x[:217]},
		"4095":             {name: x[:4095], prefix: x[:217]},
		"before an escape": {name: x[:215] + strings.Repeat("/", 20), prefix: x[:215]},
		"after an escape":  {name: x[:214] + strings.Repeat("/", 20), prefix: x[:214] + "%2F"},
		"before a rune":    {name: x[:216] + strings.Repeat("é", 30), prefix: x[:216]},
		"long of":          {name: "v1", of: x[:255], prefix: "v1~" + x[:214]},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := treename.ImageFile(test.name, test.of)
			if !strings.HasPrefix(got, test.prefix+"%-") || len(got) != len(test.prefix)+2+32+4 {
				t.Fatalf("ImageFile = %q (%d bytes), want %q, a hash and .img", got, len(got), test.prefix)
			}
		})
	}
}

// The hash is part of the tree's interface: scripts keep such names.
func TestHash(t *testing.T) {
	x := strings.Repeat("x", 4096)
	got := treename.ImageFile(x, "")
	want := x[:217] + "%-a2e659dacb4691e887ac0139f8893d04.img"
	if got != want {
		t.Fatalf("ImageFile(4096 x) = %q, want %q", got, want)
	}
	if other := treename.ImageFile(x[:4095]+"y", ""); other == got {
		t.Fatal("two long names give one file name")
	}
	if !treename.IsCut(got) {
		t.Fatal("a cut name isn't told apart")
	}
	if _, _, ok := treename.DecodeImageFile(got); ok {
		t.Fatal("a cut name was decoded")
	}
}

func TestEncodeComponent(t *testing.T) {
	tests := map[string]string{
		"vm1": "vm1", "a~b": "a~b", "latest": "latest", "..": "%2E.", ".": "%2E", ".hidden": "%2Ehidden",
		"a.img": "a%2Eimg", "a.diff": "a%2Ediff", "a.rbd2": "a%2Erbd2", "a.img.x": "a.img.x", ".img": "%2Eimg",
		"100%": "100%25", "a\xffb": "a%FFb", "latest.img": "latest%2Eimg", "": "%", "a\nb": "a%0Ab",
	}
	for component, want := range tests {
		got := treename.EncodeComponent(component)
		if got != want {
			t.Errorf("EncodeComponent(%q) = %q, want %q", component, got, want)
		}
		if back, ok := treename.DecodeComponent(got); !ok || back != component {
			t.Errorf("DecodeComponent(%q) = %q, %v", got, back, ok)
		}
	}
	folder := treename.EncodeComponent(strings.Repeat("\xff", 255))
	if len(folder) > treename.Max || !treename.IsCut(folder) {
		t.Errorf("a long component gives %q (%d bytes)", folder, len(folder))
	}
}

// Spellings that encoding never makes are no names of the tree.
func TestDecodeNotCanonical(t *testing.T) {
	for _, file := range []string{
		"", ".img", "v1", "%76%31.img", "%zz.img", "%4.img", "a%.img", "a%2f.img", "latest.img", "a~.img", "a~%.img",
		"a~b~c.img", "..img", "a..b.img", "v1.p1.img", "a\n.img", "%2E%2E", "a%2Eb.img",
	} {
		if name, of, ok := treename.DecodeImageFile(file); ok {
			t.Errorf("DecodeImageFile(%q) = %q, %q, want none", file, name, of)
		}
	}
}

// checkFile holds what is true of every file name of the tree.
func checkFile(t interface{ Fatalf(string, ...any) }, name, of string) {
	file := treename.ImageFile(name, of)
	switch {
	case len(file) > treename.Max || !utf8.ValidString(file) || strings.ContainsAny(file, "/\x00\n"):
		t.Fatalf("ImageFile(%q, %q) = %q, no file name", name, of, file)
	case strings.HasPrefix(file, ".") || file == treename.Latest || strings.Contains(file, ".."):
		t.Fatalf("ImageFile(%q, %q) = %q, a form of the tree", name, of, file)
	case treename.IsCut(file):
		return
	}
	gotName, gotOf, ok := treename.DecodeImageFile(file)
	if !ok || gotName != name || gotOf != of {
		t.Fatalf("DecodeImageFile(%q) = %q, %q, %v, want %q, %q", file, gotName, gotOf, ok, name, of)
	}
}

func FuzzImageFile(f *testing.F) {
	f.Add("v1", "", "v2", "")
	f.Add("a~b", "", "a", "b")
	f.Add("latest", "", "", "latest")
	f.Add("%41", "x", "A", "x")
	f.Add("", "~", "~", "")
	f.Add("a.p1", "..", ".", "a..b")
	f.Fuzz(func(t *testing.T, name, of, otherName, otherOf string) {
		checkFile(t, name, of)
		checkFile(t, otherName, otherOf)
		same := name == otherName && of == otherOf
		if (treename.ImageFile(name, of) == treename.ImageFile(otherName, otherOf)) != same {
			t.Fatalf("(%q, %q) and (%q, %q) give %q", name, of, otherName, otherOf, treename.ImageFile(name, of))
		}
	})
}

// FuzzDecodeImageFile looks for a file name that two pairs decode to.
func FuzzDecodeImageFile(f *testing.F) {
	f.Add("a%2Fb~c.img")
	f.Add("%.img")
	f.Fuzz(func(t *testing.T, file string) {
		if name, of, ok := treename.DecodeImageFile(file); ok && treename.ImageFile(name, of) != file {
			t.Fatalf("%q decodes to (%q, %q), which is %q", file, name, of, treename.ImageFile(name, of))
		}
	})
}

// Names made of the bytes that matter collide sooner than random ones.
func TestInjective(t *testing.T) {
	part := rapid.StringOfN(rapid.SampledFrom([]rune("a.~%/p1-27Elatest\x00")), 0, 7, -1)
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string][2]string{}
		for range 50 {
			pair := [2]string{part.Draw(t, "name"), part.Draw(t, "of")}
			checkFile(t, pair[0], pair[1])
			file := treename.ImageFile(pair[0], pair[1])
			if old, dup := seen[file]; dup && old != pair {
				t.Fatalf("%q and %q give %q", old, pair, file)
			}
			seen[file] = pair
		}
	})
}

// TestPartitions takes the names of partitions apart again.
func TestPartitions(t *testing.T) {
	for _, name := range []string{"v1", "v1.p1", "a/b", "", ".p2", "p3", strings.Repeat("long", 100)} {
		for _, number := range []int{1, 5, 128, 255} {
			file := treename.PartitionFile(name, "", number)
			image, got, ok := treename.CutPartition(file)
			if !ok || got != number || len(file) > treename.Max {
				t.Errorf("%q: %q, %d, %v", file, image, got, ok)
			}
			if whole := treename.ImageFile(name, ""); image != whole && !treename.IsCut(file) {
				t.Errorf("%q is of %q, not of %q", file, image, whole)
			}
			if _, _, ok := treename.CutPartition(treename.ImageFile(name, "")); ok {
				t.Errorf("%q is no partition", treename.ImageFile(name, ""))
			}
		}
	}
	for _, file := range []string{"v1.p01.img", "v1.p.img", "v1.p1", "v1.pp1.img", "v1.p1x.img", "v1.p99999999999999999999.img", ".img", ""} {
		if image, number, ok := treename.CutPartition(file); ok {
			t.Errorf("%q: %q, %d", file, image, number)
		}
	}
}
