package layout

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The names of layouts.
const (
	Auto       = "auto"
	Plain      = "plain"
	Barc       = "barc"
	OpenNebula = "opennebula"
	Regex      = "regex"
)

// Names are the layouts that a user can choose by name.
var Names = []string{Auto, Plain, Barc, OpenNebula}

// A Config chooses a layout.
type Config struct {
	// Layout is one of Names; empty: Auto, or Regex where a pattern is set.
	Layout string
	// Pattern is a regular expression for the paths below the repository, with
	// named groups (RE2 syntax). Files that it doesn't match are left out.
	Pattern string
	// Image and Snapshot are templates with the groups in braces; {dir} is the
	// name of the file's folder, {base} that of the file. Snapshot names what the
	// file itself doesn't name.
	Image, Snapshot string
	// Root is the image of files of which nothing else is known: the name of the
	// repository's folder.
	Root string
	// One has all files be of that image, whatever their names are.
	One string
}

// A File is what is known of a backup file.
type File struct {
	Path string // below the repository
	// Read says that the rest is known.
	Read bool
	// From and To are the snapshots that its headers name.
	From, To []string
	// Bare says that the file doesn't name the snapshot at its end, as a raw export.
	Bare bool
}

// A Place is where a file belongs.
type Place struct {
	Image string
	// Snapshot is what the path says of a bare file's end besides its base name.
	Snapshot string
	// Holds is the snapshot that a bare file may hold by its base name, since others
	// name that; "" for none.
	Holds string
	// Sure says that the file's name has the image's in it, and all of the rest was
	// understood.
	Sure bool
	// Rule is the layout that decided: one of the constants.
	Rule string
	// Left says that the layout doesn't know such files.
	Left bool
}

// A Known is a File taken apart, once.
type Known struct {
	File
	apart *apart // nil where only the path decides
}

// Know takes a file's path apart.
func (r *Rules) Know(f File) Known {
	if r.ByPath() {
		return Known{File: f}
	}
	return Known{f, takeApart(f)}
}

// Group is the key of the files that are looked at together with this one.
func (k Known) Group() string {
	if k.apart == nil {
		return ""
	}
	return k.apart.dir
}

// A Group is what the files have in common whose names are looked at together:
// the folder, without dates. Files of different groups decide nothing for each
// other.
type Group struct {
	names  map[string]int // that headers have, and how many files
	labels map[string]int // of files that say themselves where they end
}

// Rules are a layout.
type Rules struct {
	layout string
	root   string
	one    string
	regex  *pattern
}

// New returns the rules of a Config. Errors say what is wrong in it.
func New(c Config) (*Rules, error) {
	r := &Rules{layout: c.Layout, root: cmp.Or(c.Root, "backup"), one: c.One}
	if c.Pattern != "" {
		r.layout = cmp.Or(r.layout, Regex)
		if r.layout != Regex {
			return nil, fmt.Errorf("a regular expression is a layout of its own: leave out %q", c.Layout)
		}
		var err error
		r.regex, err = newPattern(c.Pattern, c.Image, c.Snapshot)
		return r, err
	}
	if c.Image != "" || c.Snapshot != "" {
		return nil, fmt.Errorf("templates need a regular expression, whose groups they use")
	}
	r.layout = cmp.Or(r.layout, Auto)
	if !slices.Contains(Names, r.layout) {
		return nil, fmt.Errorf("there is no layout %q; there are %s", r.layout, strings.Join(Names, ", "))
	}
	return r, nil
}

// Name is that of the layout.
func (r *Rules) Name() string { return r.layout }

// Guesses tells whether names may say more than the base name of a raw export
// does: any file may be one, and may be given the name of a snapshot that is
// needed and occurs in its path.
func (r *Rules) Guesses() bool { return r.one == "" && r.layout != Plain }

// ByPath tells whether nothing but a file's path decides where it belongs.
func (r *Rules) ByPath() bool { return r.one != "" || r.layout != Auto }

// Add takes a file into its group, Remove out of it. They return whether that
// may change the place of others.
func (g *Group) Add(f Known) bool { return g.count(f, 1) }

// Remove takes a file out of the group.
func (g *Group) Remove(f Known) bool { return g.count(f, -1) }

func (g *Group) count(f Known, n int) (changed bool) {
	if g.names == nil {
		g.names, g.labels = map[string]int{}, map[string]int{}
	}
	bump := func(in map[string]int, key string) {
		before := in[key]
		in[key] = before + n
		if in[key] == 0 {
			delete(in, key)
		}
		changed = changed || before == 0 || before+n == 0
	}
	if !f.Read {
		return false
	}
	for _, name := range f.From {
		bump(g.names, name)
	}
	for _, name := range f.To {
		bump(g.names, name)
	}
	if p := f.apart; p != nil && !f.Bare && p.label != "" {
		bump(g.labels, p.label)
	}
	return changed
}

// has tells whether a header of the group's files has the name of a snapshot.
func (g *Group) has(name string) bool { return g != nil && g.names[name] > 0 }

// labelled tells whether a label is surely that of an image.
func (g *Group) labelled(label string) bool { return g != nil && g.labels[label] > 0 }

// Place decides for a file, with the group of its key.
func (r *Rules) Place(f Known, g *Group) Place {
	switch {
	case r.one != "":
		return Place{Image: r.one, Rule: Plain}
	case r.layout == Plain:
		return Place{Image: r.folder(path.Dir(f.Path)), Rule: Plain}
	case r.layout == Regex:
		return r.byPattern(r.regex, f.Path, Regex)
	}
	made := unpacked(f.Path)
	for _, tool := range tools {
		if r.layout == tool.name || r.layout == Auto && tool.pattern.matches(made) {
			return r.byPattern(tool.pattern, made, tool.name)
		}
	}
	return r.auto(f, g)
}

func (r *Rules) folder(dir string) string {
	if dir == "." || dir == "" {
		return r.root
	}
	return dir
}

func (r *Rules) byPattern(p *pattern, name, rule string) Place {
	image, snapshot, ok := p.apply(name)
	if !ok {
		return Place{Image: r.folder(path.Dir(name)), Rule: rule, Left: true}
	}
	return Place{Image: image, Snapshot: snapshot, Rule: rule}
}

// auto is what a path is without snapshots, dates and the like.
func (r *Rules) auto(f Known, g *Group) Place {
	p := *f.apart // what others tell is of this moment
	place := Place{Image: r.folder(p.dir), Rule: Auto, Snapshot: p.snapshot}
	if !f.Read {
		return place // its name may have a snapshot in it that isn't known yet
	}
	if f.Bare {
		// Of a raw export nothing but its name is known: what other files need,
		// and their images, tell what is what in it.
		p.refine(g)
		place.Holds, place.Snapshot = p.holds, p.snapshot
	}
	if p.label != "" {
		place.Image, place.Sure = strings.TrimPrefix(p.dir+"/"+p.label, "./"), p.sure
	}
	if p.label != "" || p.dir != "." {
		place.Image = r.apartFromRoot(place.Image)
	}
	return place
}

// apartFromRoot keeps an image that is called as the repository's folder apart from
// the files that lie directly in that: it is ROOT/ROOT then, and so on.
func (r *Rules) apartFromRoot(image string) string {
	if strings.Trim(strings.ReplaceAll("/"+image, "/"+r.root, ""), "/") == "" {
		return r.root + "/" + image
	}
	return image
}
