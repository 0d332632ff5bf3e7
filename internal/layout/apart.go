package layout

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Apart is a path taken apart.
type apart struct {
	dir   string // without what is only a date; "." for none
	label string // what is left of the base name
	base  string // without endings
	// sure says that the rest of the base name was understood, so that the label
	// is the image's, and not just any name.
	sure bool
	// snapshot is what a bare file's name says itself: what follows an @, or the
	// date that its folder is.
	snapshot string
	before   string // what is before that @
	rest     string // of base without that, and without what the headers name
	raw      bool   // the file says nothing itself
	holds    string // the snapshot that it may hold, by the names of others
}

// takeApart takes from a path what the file's own headers and the rules know.
func takeApart(f File) *apart {
	dirs := takeDirs(path.Dir(f.Path), f.To)
	a := &apart{dir: dirs.rest, base: Bare(f.Path), sure: dirs.taken}
	if f.Bare {
		a.snapshot = dirs.date
	}
	rest := a.base
	if at := strings.LastIndexByte(rest, '@'); f.Bare && at > 0 && at < len(rest)-1 && !onlyDate(rest[:at]) {
		// rbd allows no @ in names.
		a.snapshot, rest, a.sure = rest[at+1:], rest[:at], true
		a.before = rest
	}
	rest = a.cut(rest, cutNames(rest, f.From, f.To))
	a.rest, a.raw = rest, f.Bare && len(f.From) == 0
	a.finish(rest)
	switch {
	case a.label != "" && dirs.other != dirs.rest:
		a.dir, a.sure = dirs.other, true
		a.label = a.own(a.label)
	case a.label == "" && a.dir == "." && dirs.kind != "":
		a.dir = dirs.kind // nothing else is left that could be the image's name
	}
	return a
}

// cut notes that something was taken away.
func (a *apart) cut(before, after string) string {
	a.sure = a.sure || before != after
	return after
}

// finish makes the label of what is left of the base name. A date is taken away
// only where nothing else told of the snapshot: images have dates in their names,
// too.
func (a *apart) finish(rest string) {
	if !a.sure {
		rest = a.cut(rest, cutDates(rest))
	}
	label, words := cutWords(rest)
	a.sure = a.sure || words
	a.label = a.own(label)
}

// own is a label as far as it says something that the folder doesn't.
func (a *apart) own(label string) string {
	tokens := tokensOf(label)
	switch {
	case generic(tokens), !a.sure && counter(tokens), onlyDate(label):
		return ""
	case endsWith(tokensOf(a.dir), tokens):
		return "" // as in vm1/vm1-0101.diff
	}
	return label
}

// refine takes what is known of other files from a bare file's name.
func (a *apart) refine(g *Group) {
	switch {
	case a.before != "" && g.has(a.before): // SNAPSHOT@IMAGE
		a.label, a.holds, a.snapshot = a.own(a.snapshot), a.before, ""
		return
	case g.has(a.base):
		a.label, a.holds = "", a.base
		return
	case a.holdsOne(g):
		return
	}
	if a.raw && !a.sure && !g.labelled(a.label) {
		a.label = "" // any name may be that of a raw export's snapshot
	}
	rest := cutDates(a.rest)
	if !a.raw && a.before == "" && !g.labelled(a.label) && strings.Count(rest, cutMark) <= strings.Count(a.rest, cutMark)+1 {
		// A date may be that of its end, which nothing names; of two it isn't known.
		if label, _ := cutWords(rest); g.labelled(label) || a.own(label) == "" {
			a.label = a.own(label)
		}
	}
}

// holdsOne finds the snapshot that a base name consists of, but for words that say
// the kind and the image's name. Of several it is the longest one.
func (a *apart) holdsOne(g *Group) bool {
	if g == nil {
		return false
	}
	for name := range g.names {
		if len(name) < len(a.holds) || len(name) == len(a.holds) && name > a.holds {
			continue
		}
		if label, ok := a.couldHold(name); ok && (label == "" || g.labelled(label)) {
			a.holds, a.label = name, label
		}
	}
	return a.holds != ""
}

// couldHold takes a snapshot's name and words that say the kind out of a base name,
// and returns what comes before; something else may not follow.
func (a *apart) couldHold(name string) (label string, ok bool) {
	at := lastWord(a.rest, name)
	if at < 0 || isShort(name) {
		return "", false
	}
	after := a.rest[at+len(name):]
	if HasDate(name) {
		after = cutTime(after)
	}
	if !onlyKind(tokensOf(after)) {
		return "", false
	}
	label, _ = cutWords(a.rest[:at])
	if tokens := tokensOf(label); onlyKind(tokens) || endsWith(tokensOf(a.dir), tokens) {
		label = ""
	}
	return label, true
}

// Dirs are the folders of a path, taken apart.
type dirs struct {
	rest  string // "." for none
	other string // rest without the snapshot that the file ends at, where that is a folder
	taken bool   // something is not in rest
	date  string // the last folders that are a date, as a snapshot's name
	kind  string // the last folder that is a word as "full"
}

// takeDirs takes from the folders those that say nothing of the image: dates,
// the snapshot that the file ends at if it is called so, and words as "full". One
// that has a date in its name stays: that may be the image's.
func takeDirs(dir string, to []string) dirs {
	d := dirs{rest: dir, other: dir}
	if dir == "." {
		return d
	}
	var kept, other []string
	comps := strings.Split(dir, "/")
	for i := 0; i < len(comps); i++ {
		comp := comps[i]
		if n := dateFolders(comps[i:]); n > 0 {
			d.date = strings.Join(comps[i:i+n], "-")
			i += n - 1
			continue
		}
		rest := cutDates(comp)
		switch {
		case isKindWord(comp):
			d.kind = comp
		case comp == "", slices.Contains(to, comp) && namesBackup(comp):
		case rest != comp && onlyBackup(tokensOf(rest)):
			d.date = comp
		default:
			kept = append(kept, comp)
			// An image's name may be that of a snapshot as well: it is taken away only
			// where something else is left.
			if !slices.Contains(to, comp) || isShort(comp) || !strings.ContainsAny(comp, "0123456789") {
				other = append(other, comp)
			}
		}
	}
	d.rest = cmp.Or(strings.Join(kept, "/"), ".")
	d.other = cmp.Or(strings.Join(other, "/"), ".")
	d.taken = d.rest != dir
	return d
}

// isShort tells whether a snapshot's name may be part of anything: a letter, or a
// small number.
func isShort(name string) bool {
	return len(name) < 2 || len(name) == 2 && isDigit(name[0]) && isDigit(name[1])
}

// cutNames takes the snapshots' names from a base name: of each the last
// occurrence, since images may have them in their names as well. Short ones count
// only where both are at the end, as in vm1_0_1.
func cutNames(base string, from, to []string) string {
	for _, f := range from {
		for _, t := range to {
			for _, sep := range []string{"-", "_", ".", "..", "-to-", "_to_", "->"} {
				if rest, found := strings.CutSuffix(base, f+sep+t); found && (rest == "" || isSeparator(rest[len(rest)-1])) {
					return rest
				}
			}
		}
	}
	names := slices.Concat(from, to)
	slices.SortFunc(names, func(a, b string) int { // the longest first
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	for _, name := range names {
		if isShort(name) && base != name {
			continue
		}
		if at := lastWord(base, name); at >= 0 {
			after := base[at+len(name):]
			if HasDate(name) { // and the file's name may have the time as well
				after = cutTime(after)
			}
			base = base[:at] + cutMark + after
		}
	}
	return base
}

// cutMark is where something was taken away.
const cutMark = "\x00"

// HasWord tells whether a name has a word in it, not as a part of a longer word or
// number.
func HasWord(name, word string) bool { return lastWord(name, word) >= 0 }

// lastWord is where a word last occurs in s, not as a part of a longer one; -1 for
// nowhere.
func lastWord(s, word string) int {
	for end := len(s); word != ""; {
		at := strings.LastIndex(s[:end], word)
		if at < 0 {
			return -1
		}
		after := at + len(word)
		if (at == 0 || !alike(s[at-1], word[0])) && (after == len(s) || !alike(s[after], word[len(word)-1])) {
			return at
		}
		end = after - 1
	}
	return -1
}

// alike tells whether two bytes are both digits or both letters.
func alike(a, b byte) bool {
	return isDigit(a) && isDigit(b) || isLetter(a) && isLetter(b)
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80 }

const separators = "-_.@+~,=: ()#[]"

func isSeparator(c byte) bool { return strings.IndexByte(separators+cutMark, c) >= 0 }

func trimSeparators(s string) string { return strings.Trim(s, separators+cutMark) }

// tokensOf are the words and numbers of a name, in lower case.
func tokensOf(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return r == '/' || r < 0x80 && isSeparator(byte(r))
	})
}

func endsWith(all, end []string) bool {
	return len(end) <= len(all) && slices.Equal(all[len(all)-len(end):], end)
}
