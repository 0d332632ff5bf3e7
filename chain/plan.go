package chain

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"path"
	"slices"
	"strings"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// A planFile is a backup file as the planner sees it.
type planFile struct {
	path    string // below the repository
	kind    fileKind
	pin     repo.Pin
	modTime time.Time
	steps   []stepInfo
	fault   *fault // not usable; its steps only explain what is missing
	link    string // what --link says its end is, "" when nothing
	info    *fileInfo
	now     repo.Pin // what it must be opened with
	damage  *fault
}

// A fileKind decides which exports of one step should be alike: two of one
// kind are, byte for byte, when they hold the same.
type fileKind string

const (
	kindRaw       fileKind = "raw"
	kindDiff      fileKind = "diff"
	kindContainer fileKind = "container"
)

// base is the file's name in its folder.
func (f *planFile) base() string { return path.Base(f.path) }

// stem is the base name without the extension that says it is an export.
func (f *planFile) stem() string { return stem(f.path) }

func stem(name string) string {
	base := path.Base(name)
	switch ext := path.Ext(base); strings.ToLower(ext) {
	case ".raw", ".img", ".diff", ".rbd", ".rbd2", ".rbdiff", ".export", ".full", ".inc", ".bin":
		if base != ext {
			return strings.TrimSuffix(base, ext)
		}
	}
	return base
}

// A step is one edge of the graph: a part of a file that leads from a
// snapshot, or from nothing, to another.
type step struct {
	file *planFile
	part int
	info *stepInfo
	from string // meaningless when full
	full bool
	to   string
	of   string // set where the name comes from the file and another file's header has it too
}

// before orders steps that cost the same, so that plans are stable.
func (s *step) before(o *step) bool {
	return cmp.Or(cmp.Compare(s.file.path, o.file.path), cmp.Compare(s.part, o.part)) < 0
}

// A planNode is a snapshot that can be built.
type planNode struct {
	step   *step
	parent *planNode
	name   string
	of     string
	id     index.NodeID
	depth  int
	bytes  int64
	alts   []*step // agree with step
	linked bool    // the user chose this file
	kids   int
}

func (n *planNode) label() string {
	if n.of == "" {
		return n.name
	}
	return n.name + "~" + n.of
}

// nodeID names the state after a step: the state before, the file's identity
// and the place in it.
func nodeID(parent index.NodeID, pin repo.Pin, part int) (id index.NodeID) {
	b := append([]byte("node 1\n"), parent[:]...)
	for _, v := range []uint64{pin.Inode, uint64(pin.Size), uint64(pin.MTimeNs), uint64(part)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

// A verdict says whether two steps lead to the same bytes.
type verdict int

const (
	undecided verdict = iota
	same
	different
)

// A comparison is two nodes whose bytes decide whether a snapshot is ambiguous.
type comparison struct{ a, b *planNode }

// key is the same whichever comes first.
func (c comparison) key() string {
	a, b := c.a.id, c.b.id
	if slices.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return a.String() + b.String()
}

// A plan says which snapshots of an image can be built, from what, and why
// the others can't.
type plan struct {
	image    string
	nodes    []*planNode // parents before children
	problems []Problem
	compare  []comparison // would decide what is ambiguous
	states   map[*planFile]string
}

// A planner makes one plan. The graph's vertices are snapshot names, its edges
// are steps; the plan is the tree of cheapest paths from nothing.
type planner struct {
	plan
	files     []*planFile
	same      func(comparison) verdict
	claims    map[string][]*step    // by end, without those of faulty files
	fromIndex map[string][]*step    // increments by start
	ambiguous map[string]*ambiguity // by snapshot
	served    map[string]*planNode  // by name, unambiguous ones
	linked    map[string]*step      // chosen by the user
}

// An ambiguity is a snapshot that several files claim and, as far as is
// known, with different contents.
type ambiguity struct {
	steps   []*step
	reason  string
	pending bool // a comparison would tell
}

// makePlan plans one image. It depends on its arguments alone.
func makePlan(image string, files []*planFile, sameBytes func(comparison) verdict) *plan {
	p := &planner{
		plan: plan{image: image, states: map[*planFile]string{}}, files: files, same: sameBytes,
		claims: map[string][]*step{}, fromIndex: map[string][]*step{},
		ambiguous: map[string]*ambiguity{}, linked: map[string]*step{},
	}
	p.collect()
	p.findConflicts()
	for again := true; again; {
		again = p.search()
	}
	p.serveAmbiguous()
	p.order()
	p.explain()
	return &p.plan
}

// collect turns the files into steps.
func (p *planner) collect() {
	var heads []*step
	named := map[string]bool{}
	for _, f := range p.files {
		if f.fault != nil {
			continue
		}
		for i := range f.steps {
			s := &step{file: f, part: i, info: &f.steps[i], from: f.steps[i].From, full: !f.steps[i].HasFrom}
			s.to = f.steps[i].To
			last := i == len(f.steps)-1
			if !f.steps[i].HasTo {
				s.to = f.stem()
				if last && f.link != "" {
					s.to = f.link
				} else if f.kind != kindRaw {
					heads = append(heads, s)
				}
			} else {
				named[s.to] = true
			}
			if f.link != "" && s.to == f.link {
				p.linked[s.to] = s
			}
			p.claims[s.to] = append(p.claims[s.to], s)
		}
	}
	for _, s := range heads {
		if named[s.to] {
			s.of = s.file.base()
			p.claims[s.to] = slices.DeleteFunc(p.claims[s.to], func(o *step) bool { return o == s })
			p.claims[s.to+"~"+s.of] = append(p.claims[s.to+"~"+s.of], s)
		}
	}
	for _, list := range p.claims {
		slices.SortFunc(list, func(a, b *step) int {
			if a.before(b) {
				return -1
			}
			return 1
		})
		for _, s := range list {
			if !s.full {
				p.fromIndex[s.from] = append(p.fromIndex[s.from], s)
			}
		}
	}
}

// vertex is the name of the graph's vertex that a step leads to.
func (s *step) vertex() string {
	if s.of == "" {
		return s.to
	}
	return s.to + "~" + s.of
}

// findConflicts finds the snapshots whose claims can't all be right: a
// snapshot has one size.
func (p *planner) findConflicts() {
	for name, list := range p.claims {
		if p.linked[name] != nil {
			continue
		}
		size := int64(-1)
		for _, s := range list {
			if !s.info.HasSize {
				continue
			}
			if size >= 0 && s.info.Size != size {
				p.ambiguous[name] = &ambiguity{steps: list, reason: "with different image sizes"}
			}
			size = s.info.Size
		}
	}
}

// search finds the cheapest paths. It returns true when it met a new
// ambiguity and must run again without that snapshot.
func (p *planner) search() (again bool) {
	p.served = map[string]*planNode{}
	q := &queue{}
	if !p.relax(q, nil, p.fullSteps()) {
		return true
	}
	for q.Len() > 0 {
		n := heap.Pop(q).(*planNode)
		v := n.step.vertex()
		if p.served[v] != nil {
			continue
		}
		p.served[v] = n
		if !p.relax(q, n, p.fromIndex[n.name]) {
			return true
		}
	}
	return false
}

func (p *planner) fullSteps() (list []*step) {
	for _, claims := range p.claims {
		for _, s := range claims {
			if s.full {
				list = append(list, s)
			}
		}
	}
	return list
}

// relax puts where the steps from a node lead into the queue, one candidate
// for each snapshot. It returns false when it met a new ambiguity.
func (p *planner) relax(q *queue, from *planNode, steps []*step) bool {
	if from != nil && from.of != "" {
		return true // nothing can build on a name that only the file gives
	}
	groups := map[string][]*step{}
	for _, s := range steps {
		v := s.vertex()
		if p.ambiguous[v] != nil || (p.linked[v] != nil && p.linked[v] != s) {
			continue
		}
		if !s.full && s.from == s.to {
			continue
		}
		groups[v] = append(groups[v], s)
	}
	ok := true
	for v, group := range groups {
		n, a := p.candidate(from, group)
		if a == nil {
			heap.Push(q, n)
		} else {
			p.ambiguous[v] = a
			ok = false
		}
	}
	return ok
}

// candidate returns the cheapest of the steps that claim the same, or what is
// ambiguous when two of a kind aren't known to agree.
func (p *planner) candidate(from *planNode, group []*step) (*planNode, *ambiguity) {
	nodes := make([]*planNode, len(group))
	for i, s := range group {
		nodes[i] = newNode(from, s)
	}
	slices.SortStableFunc(nodes, func(a, b *planNode) int { return cmp.Compare(a.bytes, b.bytes) })
	var a *ambiguity
	for i, n := range nodes {
		j := slices.IndexFunc(nodes[:i], func(o *planNode) bool { return o.step.file.kind == n.step.file.kind })
		if j < 0 {
			continue
		}
		switch c := (comparison{nodes[j], n}); p.same(c) {
		case same:
		case undecided:
			p.compare = append(p.compare, c)
			a = &ambiguity{steps: group, reason: "and they are being compared", pending: true}
		case different:
			a = &ambiguity{steps: group, reason: "and differ"}
		}
		if a != nil && !a.pending {
			break
		}
	}
	if a != nil {
		a.steps = p.claims[group[0].vertex()]
		return nil, a
	}
	best := nodes[0]
	for _, n := range nodes[1:] {
		best.alts = append(best.alts, n.step)
	}
	best.linked = p.linked[best.step.vertex()] != nil
	return best, nil
}

func newNode(parent *planNode, s *step) *planNode {
	n := &planNode{step: s, parent: parent, name: s.to, of: s.of, depth: 1, bytes: s.info.Bytes}
	var base index.NodeID
	if parent != nil {
		n.depth += parent.depth
		n.bytes += parent.bytes
		base = parent.id
	}
	n.id = nodeID(base, s.file.pin, s.part)
	return n
}

// serveAmbiguous adds the full exports of ambiguous snapshots, and those that
// lost against --link, each under its own name: they are complete in themselves.
func (p *planner) serveAmbiguous() {
	extra := func(steps []*step) {
		for _, s := range steps {
			if s.full && p.linked[s.vertex()] != s {
				n := newNode(nil, s)
				n.of = s.file.base()
				p.nodes = append(p.nodes, n)
			}
		}
	}
	for _, a := range p.ambiguous {
		extra(a.steps)
	}
	for name, chosen := range p.linked {
		if p.served[name] != nil && p.served[name].step == chosen {
			extra(p.claims[name])
		}
	}
	for _, n := range p.served {
		p.nodes = append(p.nodes, n)
	}
}

// order sorts the nodes: parents before children, siblings by age.
func (p *planner) order() {
	kids := map[*planNode][]*planNode{}
	for _, n := range p.nodes {
		kids[n.parent] = append(kids[n.parent], n)
		if n.parent != nil {
			n.parent.kids++
		}
	}
	sorted := make([]*planNode, 0, len(p.nodes))
	stack := byAge(kids[nil])
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = append(stack[:len(stack)-1], byAge(kids[n])...)
		sorted = append(sorted, n)
	}
	p.nodes = sorted
}

// byAge sorts the newest first, for a stack.
func byAge(nodes []*planNode) []*planNode {
	slices.SortFunc(nodes, func(a, b *planNode) int {
		return -cmp.Or(
			a.step.file.modTime.Compare(b.step.file.modTime),
			cmp.Compare(a.label(), b.label()))
	})
	return nodes
}

// A queue has the cheapest node on top: fewest steps, then fewest bytes.
type queue []*planNode

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if c := cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.bytes, b.bytes)); c != 0 {
		return c < 0
	}
	return a.step.before(b.step)
}
func (q *queue) Push(x any) { *q = append(*q, x.(*planNode)) }
func (q *queue) Pop() any {
	old := *q
	n := old[len(old)-1]
	*q = old[:len(old)-1]
	return n
}
