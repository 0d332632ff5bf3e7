package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/layout"
)

// layoutArgs parses flags.
func layoutArgs(t *testing.T, args ...string) *layoutFlags {
	t.Helper()
	f := &layoutFlags{}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.addLayout(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFlagsWinOverTheLayoutFile(t *testing.T) {
	index := t.TempDir()
	file := filepath.Join(index, layoutFileName)
	text := `trust-names = true
[regex]
pattern = '(?P<img>.*)'
image = "{img}"
[links]
"a/full.img" = "1"
"./b//full.img" = "2"
"/srv/backup/c.img" = "3"
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := layout.Config{Pattern: "(?P<img>.*)", Image: "{img}"}
	links := func(pairs ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		args string
		want layoutChoice
	}{
		{"", layoutChoice{
			Config: config, From: file, TrustNames: true,
			Links: links("a/full.img", "1", "b/full.img", "2", "/srv/backup/c.img", "3"),
		}},
		{"--layout barc --trust-names=false", layoutChoice{
			Config: layout.Config{Layout: "barc"}, From: "--layout",
			Links: links("a/full.img", "1", "b/full.img", "2", "/srv/backup/c.img", "3"),
		}},
		{"--layout-regex (?P<x>.) --layout-image {x}", layoutChoice{
			Config: layout.Config{Pattern: "(?P<x>.)", Image: "{x}"}, From: "--layout-regex", TrustNames: true,
			Links: links("a/full.img", "1", "b/full.img", "2", "/srv/backup/c.img", "3"),
		}},
		// Of a file that has several names each is the same one.
		{"--link a/full.img=x --link /srv/backup/b/full.img=y --link c.img=vm@z", layoutChoice{
			Config: config, From: file, TrustNames: true,
			Links: links("a/full.img", "x", "/srv/backup/b/full.img", "y", "c.img", "vm@z"),
		}},
		{"--link full.img=x", layoutChoice{
			Config: config, From: file, TrustNames: true,
			Links: links("full.img", "x", "/srv/backup/c.img", "3"),
		}},
	} {
		c.want.File = file
		got, err := layoutArgs(t, strings.Fields(c.args)...).choose(index, "/srv/backup")
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.args, err, diff)
		}
		// A mount that has no socket is asked for it through JSON.
		report := newLayoutReport(got, chain.LayoutStatus{Layout: got.Layout})
		if diff := cmp.Diff(got, report.choice()); diff != "" {
			t.Errorf("%s: reported as another choice\n%s", c.args, diff)
		}
	}
	got, err := layoutArgs(t, "--link", "a=b").choose(memoryIndex, "/srv/backup")
	if diff := cmp.Diff(layoutChoice{Links: links("a", "b")}, got); diff != "" || err != nil {
		t.Errorf("an index in memory has no file: %v\n%s", err, diff)
	}
}

func TestLayoutOnOneLine(t *testing.T) {
	for want, r := range map[string]layoutReport{
		"auto, no files":             {Layout: "auto"},
		"plain, 1 file by folder":    {Layout: "plain", Rules: map[string]int{"plain": 1}},
		"barc, no files, 3 left out": {Layout: "barc", Left: 3},
		"auto (/i/l.toml), no files": {Layout: "auto", From: "/i/l.toml", File: "/i/l.toml"},
		"barc, 2 files as barc":      {Layout: "barc", From: "--layout", File: "/i/l.toml", Rules: map[string]int{"barc": 2}},
		"regex, 9 files by the regular expression, 1 by link, 2 left out": {
			Layout: "regex", Rules: map[string]int{"regex": 9, "link": 1}, Left: 2,
		},
		"auto, 40 files by folder and name, 7 as barc, 7 as opennebula": {
			Layout: "auto", Rules: map[string]int{"auto": 40, "barc": 7, "opennebula": 7},
		},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFilesOfNoImageAreListed(t *testing.T) {
	images := []imageReport{{nameReport: nameReport{Name: "vm"}, Files: []*chain.File{
		{Path: "vm/b", State: "ok", Links: []chain.Link{{To: "s1"}, {From: "s1", To: "s2"}}},
		{Path: "vm/a", State: string(chain.KindLeftOut)},
	}}}
	problems := []chain.Problem{
		{File: "vm/a", Kind: chain.KindLeftOut},
		{File: "notes/x", Kind: chain.KindUnsupported},
		{File: "nowhere", Kind: chain.KindBadLink},
		{Snapshot: "s9", Kind: chain.KindMissingParent},
	}
	files := filesOf(images, problems)
	byPath(files)
	var got []string
	for _, f := range files {
		got = append(got, f.Path+" "+f.Image+" "+f.State)
	}
	if diff := cmp.Diff([]string{"notes/x  unsupported", "vm/a  left-out", "vm/b vm ok"}, got); diff != "" {
		t.Error(diff)
	}
}

// The folders are listed, and no image is known yet: none is pending, and the mount
// isn't complete for that.
func TestMountWaitsForTheImagesOfTheLayout(t *testing.T) {
	f := newFake(t.TempDir())
	f.status.Progress = chain.Progress{Listed: true, FilesTotal: 70}
	ended, ready, stop := mounting(t, f, time.Millisecond)
	ready()
	stop()
	o := <-ended
	if !strings.Contains(o.stdout, " so far; indexing 0 of 70 files goes on") ||
		!strings.Contains(o.stdout, "\nlayout: auto; what was taken for what: rbdbackupfs layout ") {
		t.Errorf("%+v", o)
	}
}

// What a mount doesn't know yet is never told as nothing.
func TestListsOfARunningMountSayWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *fakeLibrary)
		want   string
	}{
		{"before the images are known", func(f *fakeLibrary) {}, "nothing is known yet of /srv/backup: indexing 30 of 70 files goes on\n"},
		{"with one that is pending", func(f *fakeLibrary) {
			close(f.listed)
			f.status.Progress.Listed = true
			f.images["vm"] = nil
		}, "\n\nindexing 30 of 70 files goes on; what is missing here comes with it\n"},
		{"when all is known", func(f *fakeLibrary) {
			close(f.listed)
			f.status.Files, f.status.Progress = 0, chain.Progress{Listed: true, Idle: true}
		}, "no backup files in /srv/backup\n"},
	} {
		f := newFake("/srv/backup")
		f.status.Files, f.status.Progress = 70, chain.Progress{FilesDone: 30, FilesTotal: 70}
		c.change(f)
		var out bytes.Buffer
		a := &app{stdout: &out}
		report := lsReport{Repo: f.root}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := a.listAll(ctx, &localSource{lib: f}, &report, false)
		cancel()
		if err = errors.Join(err, a.printAll(report)); err != nil || !strings.HasSuffix(out.String(), c.want) {
			t.Errorf("%s: %v, %q, want %q", c.name, err, out.String(), c.want)
		}
	}
}
