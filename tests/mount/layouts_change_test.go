package mount

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"rbdbackupfs/internal/testenv"
	"rbdbackupfs/tests/scenario"
)

// A change is a repository whose files come, go and get other names, and what may
// ever be seen of each snapshot.
type change struct {
	m    *Mount
	t    *testing.T
	want map[string]scenario.Expect // by path
}

func changeOf(t *testing.T, files tree, expects []scenario.Expect) *change {
	t.Helper()
	repo := t.TempDir()
	files.write(t, repo)
	c := &change{t: t, want: map[string]scenario.Expect{}}
	c.m = Start(t, repo, Options{Changing: true, Expected: []string{"rw"}})
	for _, e := range expects {
		c.want[c.m.Image(e.Image, e.Snapshot)] = e
	}
	return c
}

// put copies a file as rsync does: under a name that is passed over, then renamed.
func (c *change) put(name string, data []byte) {
	c.t.Helper()
	path := filepath.Join(c.m.Repo, name)
	place(c.t, path+".tmp", data)
	c.rename(name+".tmp", name)
}

func (c *change) rename(from, to string) {
	c.t.Helper()
	if err := os.Rename(filepath.Join(c.m.Repo, from), filepath.Join(c.m.Repo, to)); err != nil {
		c.t.Fatal(err)
	}
}

// await waits until just these are served. Whatever is served meanwhile must have the
// bytes that it has in the end.
func (c *change) await(what string, labels ...string) {
	c.t.Helper()
	slices.Sort(labels)
	await(c.t, c.m, what, func() bool {
		l, _ := List(c.t, c.m.Dir)
		for _, img := range l.Images {
			for _, s := range img.Snapshots {
				c.check(filepath.Join(c.m.Dir, s.Path))
			}
		}
		return slices.Equal(served(l), labels) && c.m.Status().Progress.Idle
	})
}

// check compares a snapshot that may just be vanishing.
func (c *change) check(path string) {
	c.t.Helper()
	sum, err := SHA256(path)
	if err != nil {
		return
	}
	if e, found := c.want[path]; !found || sum != e.SHA256 {
		c.t.Fatalf("%s has sha256 %s, want %s", path, sum, e.SHA256)
	}
}

// TestLayoutFollows lets increments, and the full exports that they need, come in any
// order, flat and in folders of days, and go again.
func TestLayoutFollows(t *testing.T) {
	testenv.Need(t, "fuse")
	web, mail := newSeries(t, "no-object-map", days...), newSeries(t, "objects-64k", days...)
	c := changeOf(t, tree{"web-" + days[0] + ".raw": web.raw(0)}, slices.Concat(web.all("web"), mail.all("mail")))
	alone := web.expect(0, "web", "web-"+days[0]) // nothing tells what is the snapshot in it
	c.want[c.m.Image("web", alone.Snapshot)] = alone
	c.await("the first day", "web@"+alone.Snapshot)
	c.put("web-"+days[1]+".diff", web.diff(1))
	c.await("an increment", "web@"+days[0], "web@"+days[1])
	c.put(days[2]+"/mail.diff", mail.diff(2))
	c.put(days[1]+"/mail.diff", mail.diff(1))
	c.put(days[2]+"/web.diff", web.diff(2))
	c.await("a folder of a day", labels(web.all("web"))...)
	c.put(days[0]+"/mail.raw", mail.raw(0))
	c.await("the full export after its increments", labels(slices.Concat(web.all("web"), mail.all("mail")))...)
	remove(t, filepath.Join(c.m.Repo, "web-"+days[0]+".raw"))
	c.await("the full export is gone", labels(mail.all("mail"))...)
}

// TestLayoutRenamed gives a file another image's name, and back. The increments of
// the one are never put on the export of the other.
func TestLayoutRenamed(t *testing.T) {
	testenv.Need(t, "fuse")
	web, mail := newSeries(t, "no-object-map", days[:2]...), newSeries(t, "objects-64k", days[:2]...)
	c := changeOf(t, tree{
		"web-" + days[0] + ".diff": web.diff(0), "web-" + days[1] + ".diff": web.diff(1), "mail-" + days[1] + ".diff": mail.diff(1),
	}, slices.Concat(web.all("web"), mail.all("mail"), web.all("shop")))
	c.await("one image is whole", labels(web.all("web"))...)
	c.rename("web-"+days[0]+".diff", "shop-"+days[0]+".diff")
	c.await("its full export is another image's", "shop@"+days[0])
	c.rename("shop-"+days[0]+".diff", "web-"+days[0]+".diff")
	c.put("mail-"+days[0]+".diff", mail.diff(0))
	c.await("both are whole", labels(slices.Concat(web.all("web"), mail.all("mail")))...)
}

// TestRawGetsItsMeaning: of a raw export only its name is known, until an increment
// says what is the snapshot in it. The export then moves from one image to another,
// and back with the increment's end.
func TestRawGetsItsMeaning(t *testing.T) {
	testenv.Need(t, "fuse")
	web := newSeries(t, "no-object-map", "rel7", "rel8")
	name := "web-rel7"
	c := changeOf(t, tree{"nas/" + name + ".raw": web.raw(0), "nas/other.raw": bytes.Repeat([]byte("other..."), 1024)}, web.all("nas/web"))
	for _, label := range []string{name, "other"} {
		path := c.m.Image("nas", label)
		sum, err := SHA256(path)
		if err != nil {
			t.Fatal(err)
		}
		c.want[path] = scenario.Expect{SHA256: sum}
	}
	c.await("only names are known", "nas@"+name, "nas@other")
	c.put("nas/web-rel8.diff", web.diff(1))
	c.await("an increment tells", "nas/web@rel7", "nas/web@rel8", "nas@other")
	remove(t, filepath.Join(c.m.Repo, "nas", "web-rel8.diff"))
	c.await("the increment is gone", "nas@"+name, "nas@other")
}
