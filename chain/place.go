package chain

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"rbdbackupfs/internal/layout"
)

// Which image a file belongs to is the layout's to say. Where it looks at several
// files together, these are a group, and what one of them says may move others.

// A groupState is the files that the layout looks at together.
type groupState struct {
	layout.Group
	key   string
	files map[string]*fileState
}

// A link is what --link says of a file.
type link struct{ image, snapshot string }

// parseLink splits [IMAGE@]SNAPSHOT: rbd allows no @ in names.
func parseLink(s string) link {
	if at := strings.LastIndexByte(s, '@'); at > 0 {
		return link{s[:at], s[at+1:]}
	}
	return link{snapshot: s}
}

// linkOf returns what --link says of a file, with mu held. A base name that several
// files have says nothing of them.
func (l *Library) linkOf(name string) link {
	if len(l.links) == 0 {
		return link{}
	}
	keys := []string{name, filepath.Join(l.repo.Root(), name), path.Base(name)}
	for i, key := range keys {
		if say, ok := l.links[key]; ok && (i < 2 || l.bases[key] == 1) {
			return parseLink(say)
		}
	}
	return link{}
}

// countBase notes that there is one more file of a base name, or one less. What
// --link says of that may begin or cease to hold for the others.
func (l *Library) countBase(name string, n int) {
	base := path.Base(name)
	l.bases[base] += n
	if _, linked := l.links[base]; !linked {
		return
	}
	for _, f := range l.files {
		if path.Base(f.path) == base {
			f.changed = true
			l.enqueue(l.folders[path.Dir(f.path)])
		}
	}
}

// layoutFile is a file as the layout sees it.
func (f *fileState) layoutFile() layout.File {
	file := layout.File{Path: f.path}
	if f.info == nil || len(f.info.Steps) == 0 {
		return file
	}
	file.Read = true
	for _, s := range f.info.Steps {
		if s.HasFrom {
			file.From = append(file.From, s.From)
		}
		if s.HasTo {
			file.To = append(file.To, s.To)
		}
	}
	file.Bare = !f.info.Steps[len(f.info.Steps)-1].HasTo
	return file
}

// placeFile puts a file where it belongs as far as it alone tells, with mu held;
// placeGroups does the rest.
func (l *Library) placeFile(f *fileState) {
	l.leaveGroup(f)
	f.known = l.layout.Know(f.layoutFile())
	if !l.layout.ByPath() {
		key := f.known.Group()
		g := l.groups[key]
		if g == nil {
			g = &groupState{key: key, files: map[string]*fileState{}}
			l.groups[key] = g
		}
		g.files[f.path], f.group = f, g
		if g.Add(f.known) {
			l.moved[g] = true
		}
	}
	l.settleFile(f)
}

// settleFile asks the layout, and puts the file into its image.
func (l *Library) settleFile(f *fileState) {
	if f.group == nil {
		f.place = l.layout.Place(f.known, nil)
	} else {
		f.place = l.layout.Place(f.known, &f.group.Group)
	}
	if image := l.linkOf(f.path).image; image != "" {
		f.place = layout.Place{Image: image, Rule: "link"}
	}
	if f.image != nil && f.image.name == f.place.Image {
		return
	}
	l.leaveImage(f)
	img := l.images[f.place.Image]
	if img == nil {
		img = &imageState{name: f.place.Image, files: map[string]*fileState{}, known: make(chan struct{})}
		l.images[img.name] = img
	}
	img.files[f.path], f.image = f, img
	l.touched[img] = true
}

// placeGroups looks again at groups in which something was learnt.
func (l *Library) placeGroups() {
	if l.held {
		return
	}
	for g := range l.moved {
		for _, f := range g.files {
			if f.known.Bare {
				l.settleFile(f)
			}
		}
	}
	clear(l.moved)
}

func (l *Library) leaveGroup(f *fileState) {
	g := f.group
	if g == nil {
		return
	}
	f.group = nil
	if g.Remove(f.known) {
		l.moved[g] = true
	}
	delete(g.files, f.path)
	if len(g.files) == 0 {
		delete(l.groups, g.key)
		delete(l.moved, g)
	}
}

func (l *Library) leaveImage(f *fileState) {
	img := f.image
	if img == nil {
		return
	}
	f.image = nil
	delete(img.files, f.path)
	l.touched[img] = true
}

// enqueueTouched queues the images that files came to or left.
func (l *Library) enqueueTouched() {
	for img := range l.touched {
		l.enqueue(img)
	}
	clear(l.touched)
}

// A candidate is a file of another image that may be what a file needs.
type candidate struct {
	file, image string
	ends        bool // it ends there, and it isn't only its name that says so
}

// elsewhere returns the only file of another image that ends at a snapshot, or may by
// its name, and is looked at together with those of this one; else the only one of
// which nothing but its name is known. Nil for none, or several.
func (l *Library) elsewhere(f *planFile, need string) (found *candidate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.files[f.path]
	if own == nil || own.group == nil {
		return nil
	}
	var bare []*candidate
	for name, other := range own.group.files {
		if other.image == own.image || other.info == nil || other.info.Fault != nil || own.place.Sure && other.place.Sure {
			continue
		}
		c := &candidate{file: l.shown(name), image: other.image.name}
		c.ends = slices.ContainsFunc(other.info.Steps, func(s stepInfo) bool { return s.HasTo && s.To == need })
		switch {
		case c.ends, other.known.Bare && layout.HasWord(path.Base(name), need):
			if found != nil {
				return nil
			}
			found = c
		case other.known.Bare:
			bare = append(bare, c)
		}
	}
	if found == nil && len(bare) == 1 {
		return bare[0]
	}
	return found
}

// A LayoutStatus says which layout the files were taken by.
type LayoutStatus struct {
	Layout string         `json:"layout"`
	Rules  map[string]int `json:"rules"`    // how many files each rule placed
	Left   int            `json:"left_out"` // files that the layout doesn't know
}

// layoutStatus counts, with mu held.
func (l *Library) layoutStatus() LayoutStatus {
	s := LayoutStatus{Layout: l.layout.Name(), Rules: map[string]int{}}
	for _, f := range l.files {
		switch {
		case f.place.Left:
			s.Left++
		case f.info != nil && f.info.Fault == nil:
			s.Rules[cmp.Or(f.place.Rule, s.Layout)]++
		}
	}
	return s
}
