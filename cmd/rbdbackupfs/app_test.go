package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var rewrite = flag.Bool("rewrite", false, "write docs/man anew")

func TestCommandLine(t *testing.T) {
	for in, want := range map[string]string{
		"rbdbackupfs":                                         "",
		"rbdbackupfs ls /srv":                                 "ls /srv",
		"/usr/bin/rbdbackupfs mount /srv /mnt":                "mount /srv /mnt",
		"rbdbackupfs /srv /mnt -o rw,dev":                     "mount /srv /mnt -o rw,dev",
		"rbdbackupfs /srv":                                    "/srv",
		"/sbin/mount.rbdbackupfs /srv /mnt -sn -o rw -t x":    "mount /srv /mnt -o rw",
		"mount.fuse.rbdbackupfs /srv /mnt -f -v -N 7 -o a,b":  "mount /srv /mnt -o a,b",
		"mount.rbdbackupfs /srv /mnt -o f -sfnv -t fuse.rbdb": "mount /srv /mnt -o f",
	} {
		if got := strings.Join(commandLine(strings.Fields(in)), " "); got != want {
			t.Errorf("%s gives %q, want %q", in, got, want)
		}
	}
	if got := commandLine(nil); got != nil {
		t.Errorf("no arguments at all give %q", got)
	}
}

func TestOptionsThatAreFlags(t *testing.T) {
	var o mountOptions
	flags := pflag.NewFlagSet("mount", pflag.ContinueOnError)
	o.addFlags(flags)
	rest, err := takeFlags([]string{`ro,index=/a\,b,uid=12`, "log-file=/l,wait,link=x=1,link=y=2,lookup_wait=3s,f,ready-fd=9,options=x", `fsname=c\,d`}, flags)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ro", "f", "ready-fd=9", "options=x", `fsname=c\,d`}, rest); diff != "" {
		t.Error(diff)
	}
	if o.index != "/a,b" || o.uid != 12 || o.log.file != "/l" || !o.wait || len(o.links) != 2 || o.lookupWait.Seconds() != 3 || o.readyFD != 0 {
		t.Errorf("%+v", o)
	}
	if _, err := takeFlags([]string{"uid=me"}, flags); err == nil {
		t.Error("uid=me was taken")
	}
}

func TestReadAhead(t *testing.T) {
	for in, want := range map[string]int{"1MiB": 1024, "4096": 4, "kernel": -1, "128k": 125} {
		if got, err := parseReadAhead(in); err != nil || got != want {
			t.Errorf("%s gives %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "much", "2GiB", "-1"} {
		if got, err := parseReadAhead(in); err == nil {
			t.Errorf("%q gives %d", in, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for args, want := range map[string]int{
		"version": exitOK, "--help": exitOK, "": exitOK, "help ls": exitOK,
		"ls --index :memory: /nowhere/at/all": exitError, "umount /nowhere/at/all": exitError,
		"nope": exitUsage, "ls": exitUsage, "version --nope": exitUsage, "mount --uid x a b": exitUsage, "ls a b c": exitUsage,
	} {
		o := runReal(t, strings.Fields(args)...)
		if o.code != want {
			t.Errorf("%q: %+v, want exit code %d", args, o, want)
		}
		if want != exitOK && (!strings.HasPrefix(o.stderr, "rbdbackupfs: ") || strings.Count(o.stderr, "\n") != 1 || o.stdout != "") {
			t.Errorf("%q is not explained by one line: %+v", args, o)
		}
	}
}

// Every command has an example, a line on what it is, and help on every flag.
func TestEveryCommandIsDocumented(t *testing.T) {
	root := (&app{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}).rootCommand()
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		if c.Example == "" || c.Short == "" || c.Long == "" {
			t.Errorf("%s lacks an example or a description", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s is not explained", c.Name(), f.Name)
			}
		})
		for line := range strings.Lines(c.Long + "\n" + c.Example) {
			if len(line) > 81 {
				t.Errorf("%s: wider than 80 columns: %s", c.Name(), line)
			}
		}
	}
}

// The committed man pages are those of this version: -rewrite makes them anew.
func TestManPages(t *testing.T) {
	const committed = "../../docs/man"
	root := func() *cobra.Command {
		return (&app{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}).rootCommand()
	}
	if *rewrite {
		if err := writeManPages(root(), committed); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := writeManPages(root(), dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pages(t, committed), pages(t, dir)); diff != "" {
		t.Errorf("docs/man is not up to date, make it anew with -rewrite:\n%s", diff)
	}
}

func pages(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		texts[e.Name()] = string(text)
	}
	return texts
}
