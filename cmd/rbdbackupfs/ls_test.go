package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/parttable"
)

// TestLsPartitions: the JSON of a snapshot has the partitions of its disk.
func TestLsPartitions(t *testing.T) {
	list := []parttable.Partition{
		{Number: 1, Off: 1 << 20, Size: 4 << 20, Type: "0fc63daf-8483-4772-8e79-3d69d8477de4", Name: "root"},
		{Number: 5, Off: 5 << 20, Size: 1 << 20, Type: "0x83"},
	}
	f := newFake("/srv/backup")
	close(f.listed)
	close(f.idle)
	f.images["vm"] = &chain.Image{Name: "vm", State: chain.StateReady, Snapshots: []*chain.Snapshot{
		{Image: "vm", Name: "plain", Depth: 1}, {Image: "vm", Name: "disk", Depth: 1, Partitions: list},
	}}
	o := <-f.start(t.Context(), 0, "ls", "--json", "--index", ":memory:", f.root)
	var got lsReport
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.code != 0 {
		t.Fatalf("%v in %+v", err, o)
	}
	if diff := cmp.Diff(list, got.Images[0].Snapshots[1].Partitions); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(o.stdout, `"partitions": [`); n != 1 || !strings.Contains(o.stdout, `"offset": 1048576`) {
		t.Errorf("%d lists in %s", n, o.stdout)
	}
}

func TestLsShowsPendingImagesOfARunningMount(t *testing.T) {
	f := newFake("/srv/backup")
	close(f.listed)
	f.images["slow"] = nil
	f.images["vm"] = &chain.Image{Name: "vm", State: chain.StateReady, Snapshots: []*chain.Snapshot{{Image: "vm", Name: "s1", Depth: 1}}}
	src := &localSource{lib: f}
	var got []string
	err := src.Images(t.Context(), imageQuery{Wait: time.Millisecond}, func(r imageReport) error {
		got = append(got, fmt.Sprintf("%s %s %d", r.Name, r.State, len(r.Snapshots)))
		return nil
	})
	if diff := cmp.Diff([]string{"slow pending 0", "vm ready 1"}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestLsFindsSnapshotsOfImagesWithAnAt(t *testing.T) {
	f := newFake("/srv/backup")
	close(f.listed)
	close(f.idle)
	for name, snapshots := range map[string][]string{"a": {"b@c", "x"}, "a@b": {"d"}} {
		img := &chain.Image{Name: name, State: chain.StateReady}
		for _, s := range snapshots {
			img.Snapshots = append(img.Snapshots, &chain.Snapshot{Image: name, Name: s, Depth: 1})
		}
		f.images[name] = img
	}
	for arg, want := range map[string]string{
		"a": "a: b@c x", "a@b": "a@b: d", "a@x": "a: x", "a@b@c": "a: b@c", "a@b@d": "a@b: d", "a@d": "",
	} {
		o := <-f.start(t.Context(), 0, "ls", "--json", "--index", ":memory:", f.root, arg)
		var got lsReport
		if want == "" {
			if o.code != exitError || !strings.Contains(o.stderr, "there is no "+arg) {
				t.Errorf("%s: %+v", arg, o)
			}
			continue
		}
		if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || len(got.Images) != 1 {
			t.Errorf("%s: %v in %+v", arg, err, o)
			continue
		}
		text := got.Images[0].Name + ":"
		for _, s := range got.Images[0].Snapshots {
			text += " " + s.Name
		}
		if text != want {
			t.Errorf("%s is %q, want %q", arg, text, want)
		}
	}
}

func TestReportOfASnapshotHasItsChain(t *testing.T) {
	full := &chain.Snapshot{Image: "vm", Name: "a", Depth: 1, Step: chain.Link{File: "a", To: "a", Trust: chain.TrustVerified}}
	named := &chain.Snapshot{Image: "vm", Name: "b", Depth: 2, Parent: full, Step: chain.Link{File: "b", From: "a", To: "b", Trust: chain.TrustByName}}
	last := &chain.Snapshot{Image: "vm", Name: "c", Depth: 3, Parent: named, Step: chain.Link{File: "c", From: "b", To: "c", Trust: chain.TrustVerified}}
	linked := &chain.Snapshot{Image: "vm", Name: "d", Of: "d.diff", Depth: 2, Parent: full, Step: chain.Link{File: "d", Trust: chain.TrustLink}}
	img := &chain.Image{
		Name: "vm", Latest: last, Snapshots: []*chain.Snapshot{full, named, last, linked},
		Files:    []*chain.File{{Path: "a"}, {Path: "b"}, {Path: "c"}, {Path: "d"}},
		Problems: []chain.Problem{{Snapshot: "z", File: "z"}, {Snapshot: "c", File: "c", Serving: true}},
	}
	got := newImageReport(img, true, "c")
	if len(got.Snapshots) != 1 || len(got.Snapshots[0].Chain) != 3 || got.Snapshots[0].Trust != chain.TrustByName ||
		got.Snapshots[0].Parent != "b" || len(got.Files) != 3 || len(got.Problems) != 1 {
		t.Errorf("%+v", got)
	}
	var trust []chain.Trust
	for _, s := range newImageReport(img, false, "").Snapshots {
		trust = append(trust, s.Trust)
	}
	want := []chain.Trust{chain.TrustVerified, chain.TrustByName, chain.TrustByName, chain.TrustLink}
	if diff := cmp.Diff(want, trust); diff != "" {
		t.Error(diff)
	}
}

func TestNamesSurviveJSON(t *testing.T) {
	for _, name := range []string{"", "monday", "ü", "a\xffb", "\x00\x1b[31m", "a<b>&c"} {
		text, err := json.Marshal(newNameReport(name))
		if err != nil {
			t.Fatal(err)
		}
		var got nameReport
		if err := json.Unmarshal(text, &got); err != nil || got.bytes() != name {
			t.Errorf("%q became %q by %s (%v)", name, got.bytes(), text, err)
		}
	}
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		kind    chain.Kind
		serving bool
		want    bool
	}{
		{chain.KindUnsettled, false, false},
		{chain.KindMissingParent, false, true},
		{chain.KindUnsupported, false, true},
		{chain.KindTrailing, true, false},
		{chain.KindAmbiguous, true, false},
		{chain.KindDamaged, true, true},
	} {
		if got := damage(chain.Problem{Kind: c.kind, Serving: c.serving}); got != c.want {
			t.Errorf("damage of %s, served %v: %v", c.kind, c.serving, got)
		}
	}
}

func TestSideCarsAreNoProblems(t *testing.T) {
	problems := []chain.Problem{
		{Image: "vm", File: "vm/README", Kind: chain.KindUnsupported, Serving: true},
		{Image: "vm", File: "vm/x.qcow2", Kind: chain.KindUnsupported},
		{File: "vm/.part", Kind: chain.KindUnsupported, Serving: true},
		{Image: "vm", File: "vm/a", Kind: chain.KindTrailing, Serving: true},
	}
	wrong, beside := withoutSideCars(problems)
	if diff := cmp.Diff(problems[1:], wrong); diff != "" || len(beside) != 1 || beside[0] != "vm/README" {
		t.Errorf("%v\n%s", beside, diff)
	}
	var out bytes.Buffer
	if err := (&app{now: time.Now}).showStatus(&out, statusReport{Status: chain.Status{Problems: problems}}, statusOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "problems    3\n") || strings.Contains(got, "README") {
		t.Errorf("status: %s", got)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"plain ü 日":         "plain ü 日",
		"a\x1b[2Jb":         `a\x1b[2Jb`,
		"two\nlines\t":      `two\nlines\t`,
		"\xff\xfe":          `\xff\xfe`,
		"right\u202eto":     `right\u202eto`,
		"\ufffd is printed": "\ufffd is printed",
		"\x7f":              `\x7f`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"": `""`, "a": "a", "a b": `"a b"`, "\x1b": `"\x1b"`, `"a"`: `"\"a\""`, "-": "-"} {
		if got := cell(in); got != want {
			t.Errorf("cell(%q) = %q, want %q", in, got, want)
		}
	}
}

// A list of 100,000 snapshots is printed without trouble.
func BenchmarkPrintAll(b *testing.B) {
	report := lsReport{Repo: "/srv/backup"}
	for i := range 1000 {
		img := imageReport{nameReport: nameReport{Name: fmt.Sprintf("rbd/vm%d", i)}, State: chain.StateReady}
		for s := range 100 {
			name := fmt.Sprintf("snap%d", s)
			img.Snapshots = append(img.Snapshots, snapshotReport{nameReport: nameReport{Name: name}, Label: name, Size: 1 << 35})
		}
		report.Images = append(report.Images, img)
	}
	for b.Loop() {
		var out bytes.Buffer
		a := &app{stdout: &out}
		if err := a.printAll(report); err != nil {
			b.Fatal(err)
		}
	}
}
