package malformed

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompile(t *testing.T) {
	tests := map[string]string{
		`diff1 t "s1" s 1K w 2~3 z 0~1 e`:    "rbd diff v1\nt\x02\x00\x00\x00s1s\x00\x04\x00\x00\x00\x00\x00\x00w\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00WWWz\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00e",
		`image2 O 22 M "k" "v" E diffs 1`:    "rbd image v2\nO\x08\x00\x00\x00\x00\x00\x00\x00\x16\x00\x00\x00\x00\x00\x00\x00M\x0a\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00k\x01\x00\x00\x00vErbd image diffs v2\n\x01\x00\x00\x00\x00\x00\x00\x00",
		`diff2 p 1 len=7 unknown "x" "ab" e`: "rbd diff v2\np\x08\x00\x00\x00\x00\x00\x00\x00\x01x\x07\x00\x00\x00\x00\x00\x00\x00abe",
		`raw "a b\n"*2 cut 5`:                "a b\na",
	}
	for text, want := range tests {
		got, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for _, text := range []string{`nonsense`, `t`, `w 1`, `cut 1`, `s x`} {
		if _, err := Compile(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestCasesParse(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, c := range cases {
		if seen[c.Name] || len(c.Files) == 0 || c.Rbd == "" {
			t.Errorf("case %q: a second one, or without files, or without what rbd does", c.Name)
		}
		seen[c.Name] = true
		for _, p := range c.Problems {
			found := false
			for _, f := range c.Files {
				found = found || f.Name == p.File && p.Offset <= int64(len(f.Data))
			}
			if !found {
				t.Errorf("case %q: problem with %s at %d, which isn't there", c.Name, p.File, p.Offset)
			}
		}
	}
	if len(cases) < 90 {
		t.Errorf("%d cases", len(cases))
	}
}
