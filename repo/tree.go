package repo

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is what Watch knows of the repository, and what it has yet to tell.
// It belongs to one goroutine and does no I/O.
type tree struct {
	root  *folder
	known func(path string, pin Pin) bool

	// reading counts the folders whose looks are still to come.
	reading int
	// removed has the names that were found gone by single looks while others
	// are under way: those may have seen them earlier.
	removed map[string]struct{}

	changes []Change
	unsure  []item   // regular files that have become Unsettled, or are to be tried again
	stale   []key    // files whose descriptors are of no use any more
	left    []string // folders that are gone, or were replaced
}

// A folder is one that is known. Names, not paths, are the keys: a tree of
// 100,000 files should be small.
type folder struct {
	path    string
	id      folderID
	kind    filesystem
	files   map[string]entry
	subs    map[string]*folder
	problem string  // why it can't be read, as last told
	began   instant // when the latest whole look at it began
	at      instant // when it was found
	round   uint32  // counts the whole looks at it
	seen    uint32  // the parent's round in which it was last seen
	dropped bool
}

// An entry is a file of a folder.
type entry struct {
	pin   Pin
	at    instant // when it was looked at; of looks that agree, the first
	since instant // when it got this pin
	round uint32  // the folder's round in which it was last seen
	state State
	why   reason
}

// An item names an entry.
type item struct {
	in   *folder
	name string
}

func (it item) path() string { return join(it.in.path, it.name) }

func newTree(known func(string, Pin) bool) *tree {
	return &tree{root: newFolder("."), known: known, removed: make(map[string]struct{})}
}

func newFolder(path string) *folder {
	return &folder{path: path, files: make(map[string]entry), subs: make(map[string]*folder)}
}

// nearest returns the deepest known folder on the way to path, and the next
// component below it. direct: that component is all that is left.
func (t *tree) nearest(path string) (f *folder, name string, direct bool) {
	f = t.root
	for {
		first, rest, more := strings.Cut(path, "/")
		if !more {
			return f, first, true
		}
		sub := f.subs[first]
		if sub == nil {
			return f, first, false
		}
		f, path = sub, rest
	}
}

// find returns the folder at path, nil when it isn't known.
func (t *tree) find(path string) *folder {
	if path == "." {
		return t.root
	}
	f, name, direct := t.nearest(path)
	if !direct {
		return nil
	}
	return f.subs[name]
}

// tell notes a change for the next batch.
func (t *tree) tell(kind Kind, f File) {
	t.changes = append(t.changes, Change{Kind: kind, File: f})
}

func (t *tree) tellEntry(kind Kind, it item, e entry) {
	t.tell(kind, fileOf(it.path(), e.pin, e.state, e.why))
}

// takeIn takes in a whole look at a folder that could be read. Where single
// names were looked at after it began, what was seen then counts.
func (t *tree) takeIn(f *folder, look *folderLook) {
	f.id, f.kind = look.id, look.kind
	t.solved(f)
	f.began = look.began
	round := f.round + 1
	f.round = round
	for i := range look.files {
		if !t.wasRemoved(f, look.files[i].name) {
			t.note(f, look.files[i])
		}
	}
	for _, sub := range look.subs {
		if !t.wasRemoved(f, sub.name) {
			t.noteFolder(f, sub, look.began)
		}
	}
	for name, e := range f.files {
		if e.round != round && e.at <= look.began {
			t.remove(item{f, name})
		}
	}
	for name, sub := range f.subs {
		if sub.seen != round && sub.at <= look.began {
			t.drop(f, name)
		}
	}
}

// note takes in one look at a file.
func (t *tree) note(f *folder, look fileLook) {
	it := item{f, look.name}
	old, had := f.files[look.name]
	if had && look.at < old.at {
		old.round = f.round
		f.files[look.name] = old
		return
	}
	e := entry{pin: look.pin, at: look.at, since: look.at, round: f.round, why: look.reason}
	e.state = stateFor(look.reason, Settled)
	kind := Changed
	if !had {
		kind = Added
	}
	switch {
	case e.state == Unreadable && had:
		e.pin = old.pin
	case e.state != Settled:
	case had && old.regular() && old.pin == e.pin:
		e.at, e.since, e.state, e.why = old.at, old.since, old.state, old.why
		if e.state == Unreadable {
			t.retry(it, &e, look.at)
		}
	case !t.known(it.path(), e.pin):
		e.state, e.why = Unsettled, reasonWritten
		if had && old.state == Unsettled {
			e.why = old.why
		} else {
			t.unsure = append(t.unsure, it)
		}
	}
	f.files[look.name] = e
	if had && old.pin != e.pin {
		t.stale = append(t.stale, key{it.path(), old.pin})
	}
	if !had || e.worthTelling(old) {
		t.tellEntry(kind, it, e)
	}
}

// retry gives a file that could not be opened another chance.
func (t *tree) retry(it item, e *entry, at instant) {
	if t.known(it.path(), e.pin) {
		e.state, e.why = Settled, reasonNone
		return
	}
	e.at = at
	t.unsure = append(t.unsure, it)
}

// regular tells whether the entry is of a file that could be served.
func (e entry) regular() bool { return e.state != Hidden }

// worthTelling tells whether a user or the index has to hear of the difference.
// A file that keeps growing is told of once.
func (e entry) worthTelling(old entry) bool {
	if e.state != old.state || e.why != old.why {
		return true
	}
	return e.state == Settled && e.pin != old.pin
}

// settle changes the state of an entry and tells it.
func (t *tree) settle(it item, e entry, state State, why reason) {
	old := e
	e.state, e.why = state, why
	it.in.files[it.name] = e
	if e.worthTelling(old) {
		t.tellEntry(Changed, it, e)
	}
}

// remove takes a file out.
func (t *tree) remove(it item) {
	e, had := it.in.files[it.name]
	if !had {
		return
	}
	delete(it.in.files, it.name)
	t.stale = append(t.stale, key{it.path(), e.pin})
	t.tellEntry(Gone, it, e)
}

// noteFolder takes in that f has this subfolder.
func (t *tree) noteFolder(f *folder, look subLook, at instant) {
	sub := f.subs[look.name]
	if sub == nil {
		t.remove(item{f, look.name})
		sub = newFolder(join(f.path, look.name))
		sub.id, sub.at = look.id, at
		f.subs[look.name] = sub
	}
	if sub.id != look.id {
		t.leave(sub)
		sub.id = look.id
	}
	sub.seen = f.round
}

// leave notes that the folders from f down are no longer at their paths.
func (t *tree) leave(f *folder) {
	t.left = append(t.left, f.path)
	for _, sub := range f.subs {
		t.leave(sub)
	}
}

// drop takes a subfolder and everything below it out.
func (t *tree) drop(f *folder, name string) {
	sub := f.subs[name]
	if sub == nil {
		return
	}
	t.left = append(t.left, sub.path)
	for file := range sub.files {
		t.remove(item{sub, file})
	}
	for below := range sub.subs {
		t.drop(sub, below)
	}
	t.solved(sub)
	sub.dropped = true
	delete(f.subs, name)
}

// trouble tells that a folder can't be read. What is known of it stays.
func (t *tree) trouble(f *folder, e *Error) {
	why := reasonOf(e.Err)
	if f.problem == why {
		return
	}
	kind := Changed
	if f.problem == "" {
		kind = Added
	}
	f.problem = why
	t.tell(kind, File{Path: f.path, State: Unreadable, Why: "the folder can't be read: " + why, Cure: sentence(e.Hint)})
}

// solved ends the trouble, if there was any.
func (t *tree) solved(f *folder) {
	if f.problem == "" {
		return
	}
	why := f.problem
	f.problem = ""
	t.tell(Gone, File{Path: f.path, State: Unreadable, Why: "the folder can't be read: " + why})
}

// takeChanges returns what is to be told, sorted by path; several changes of
// one path stay in their order.
func (t *tree) takeChanges() []Change {
	batch := t.changes
	t.changes = nil
	slices.SortStableFunc(batch, func(a, b Change) int { return strings.Compare(a.File.Path, b.File.Path) })
	return batch
}

// takeLook takes in one look at a single name of f, and returns the folder
// that has to be read because of it, nil for none.
func (t *tree) takeLook(f *folder, look nameLook) *folder {
	name := look.file.name
	switch {
	case errors.Is(look.err, unix.ENOENT):
		t.bury(f, name)
		t.remove(item{f, name})
		t.drop(f, name)
	case look.err != nil: // of the folder; the next look at all of it will tell
	case look.folder:
		delete(t.removed, join(f.path, name))
		t.noteFolder(f, subLook{name: name, id: look.sub}, look.file.at)
		return f.subs[name]
	default:
		delete(t.removed, join(f.path, name))
		t.drop(f, name)
		t.note(f, look.file)
	}
	return nil
}

// bury notes that a name is gone, for looks that began before.
func (t *tree) bury(f *folder, name string) {
	if t.reading > 0 {
		t.removed[join(f.path, name)] = struct{}{}
	}
}

func (t *tree) wasRemoved(f *folder, name string) bool {
	if len(t.removed) == 0 {
		return false
	}
	_, gone := t.removed[join(f.path, name)]
	return gone
}
