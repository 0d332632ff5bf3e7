package chain

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
)

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
	links    map[stepKey]Link // of the parts of all files that are known
}

// A stepKey is a part of a file.
type stepKey struct {
	path string
	part int
}

// planRules are what a plan depends on besides its files.
type planRules struct {
	// verdict says whether two nodes hold the same bytes, as far as is known.
	verdict func(comparison) verdict
	// infer has names be looked for in paths.
	infer bool
	// trust has steps linked that something speaks against.
	trust bool
	// chosen says that the user named the files: what speaks against a name is told,
	// and the step is taken.
	chosen bool
	// elsewhere returns a file of another image that may end at a snapshot which a
	// file needs, nil for none; it may be nil itself.
	elsewhere func(f *planFile, need string) *candidate
}

// A planner makes one plan. The graph's vertices are snapshots, its edges are
// steps; the plan is the tree of cheapest paths from nothing.
type planner struct {
	plan
	planRules
	files     []*planFile
	named     map[string]bool    // names that headers give, or the user
	wanted    map[string][]want  // by snapshots that no header names as an end
	bases     map[string]int     // how many files have a base name
	largest   *want              // the file that says the image is as large as none else
	sizes     map[int64]int      // how many files say that the image has a size
	suspects  map[*step]string   // steps that nothing is built by, and why
	doubts    map[*step]string   // steps that are taken all the same, and what speaks against them
	full      []*step            // those that start from nothing
	fromIndex map[string][]*step // the others, by start
	claims    map[vertex][]*step // all, by end; none of faulty files
	linked    map[vertex][]*step // chosen by the user
	ambiguous map[vertex]*ambiguity
	served    map[vertex]*planNode // by the cheapest path
	origins   map[vertex]vertex    // of what can't be served, the first that lacks something
}

// An ambiguity is a snapshot that several files claim and, as far as is
// known, with different contents.
type ambiguity struct {
	steps   []*step
	reason  string
	pending bool // a comparison would tell
}

// makePlan plans one image. It depends on its arguments alone, and not on the
// order of the files.
func makePlan(image string, files []*planFile, rules planRules) *plan {
	p := &planner{
		plan: plan{image: image, states: map[*planFile]string{}, links: map[stepKey]Link{}}, planRules: rules, files: slices.Clone(files),
		wanted: map[string][]want{}, sizes: map[int64]int{}, bases: map[string]int{}, suspects: map[*step]string{}, doubts: map[*step]string{},
		fromIndex: map[string][]*step{}, claims: map[vertex][]*step{},
		linked: map[vertex][]*step{}, ambiguous: map[vertex]*ambiguity{}, origins: map[vertex]vertex{},
	}
	slices.SortFunc(p.files, func(a, b *planFile) int { return cmp.Compare(a.path, b.path) })
	p.collect()
	p.findConflicts()
	for again := true; again; {
		again = p.search()
	}
	p.serveAlone()
	p.order()
	p.explain()
	return &p.plan
}

// collect turns the files into steps.
func (p *planner) collect() {
	p.named = p.headerNames()
	p.findWanted()
	p.findSizes()
	for _, f := range p.files {
		if f.fault != nil {
			continue
		}
		ends := map[vertex]*step{}
		for part := range f.steps {
			s := p.newStep(f, part)
			if s.full {
				p.full = append(p.full, s)
			} else {
				p.fromIndex[s.from] = append(p.fromIndex[s.from], s)
				s.prev = ends[vertex{name: s.from}]
			}
			v := s.vertex()
			ends[v] = s
			p.claims[v] = append(p.claims[v], s)
			if s.chosen() {
				p.linked[v] = append(p.linked[v], s)
			}
		}
	}
}

// headerNames returns the snapshots that headers name, or the user.
func (p *planner) headerNames() map[string]bool {
	named := map[string]bool{}
	for _, f := range p.files {
		if f.fault != nil {
			continue
		}
		for _, s := range f.steps {
			if s.HasTo {
				named[s.To] = true
			}
		}
		if f.linksEnd() {
			named[f.link] = true
		}
	}
	return named
}

// overruled tells whether the user chose another file for where a step leads to.
func (p *planner) overruled(s *step) bool {
	return len(p.linked[s.vertex()]) > 0 && !s.chosen()
}

// overruledBefore returns the part of a step's own file that the step builds on
// and that the user overruled, nil when there is none. What follows such a part
// is of another history than the file the user chose.
func (p *planner) overruledBefore(s *step) *step {
	if len(p.linked) == 0 {
		return nil
	}
	for at := s.prev; at != nil; at = at.prev {
		if p.overruled(at) {
			return at
		}
	}
	return nil
}

// ambiguousBefore is the like for a part that leads to an ambiguous snapshot:
// nothing tells that the way round it is of the same history.
func (p *planner) ambiguousBefore(s *step) *step {
	if len(p.ambiguous) == 0 {
		return nil
	}
	for at := s.prev; at != nil; at = at.prev {
		if p.ambiguous[at.vertex()] != nil {
			return at
		}
	}
	return nil
}

// contenders are the claims of a snapshot that the user's links leave.
func (p *planner) contenders(v vertex) (list []*step) {
	for _, s := range p.claims[v] {
		if !p.overruled(s) && p.overruledBefore(s) == nil {
			list = append(list, s)
		}
	}
	return list
}

// findConflicts finds the snapshots whose claims can't all be right: a
// snapshot has one size.
func (p *planner) findConflicts() {
	for v := range p.claims {
		list := p.contenders(v)
		size := int64(-1)
		for _, s := range list {
			if !s.info.HasSize {
				continue
			}
			if size >= 0 && s.info.Size != size {
				p.ambiguous[v] = &ambiguity{steps: list, reason: "with different image sizes"}
			}
			size = s.info.Size
		}
	}
}

// search finds the cheapest paths. It returns true when it met a new
// ambiguity and must run again without that snapshot.
func (p *planner) search() (again bool) {
	p.served = map[vertex]*planNode{}
	q := &queue{}
	if !p.relax(q, nil, p.full) {
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

// relax puts where the steps from a node lead into the queue, one candidate
// for each snapshot. It returns false when it met a new ambiguity.
func (p *planner) relax(q *queue, from *planNode, steps []*step) bool {
	if from != nil && from.of != "" {
		return true // nothing can build on a name that only the file gives
	}
	groups := map[vertex][]*step{}
	for _, s := range steps {
		if !p.usable(s) {
			continue
		}
		switch why := p.suspect(from, s); {
		case why == "":
		case p.chosen && p.short(from.step) == nil:
			p.doubts[s] = why
		default:
			p.suspects[s] = why
			continue
		}
		groups[s.vertex()] = append(groups[s.vertex()], s)
	}
	found := map[vertex]*ambiguity{}
	for v, group := range groups {
		n, a := p.candidate(from, group)
		if a == nil {
			heap.Push(q, n)
		} else {
			found[v] = a
		}
	}
	maps.Copy(p.ambiguous, found)
	return len(found) == 0
}

// usable tells whether a path may take a step, as far as is known.
func (p *planner) usable(s *step) bool {
	switch {
	case !s.full && s.from == s.to && s.of == "":
		return false
	case p.ambiguous[s.vertex()] != nil, p.overruled(s):
		return false
	}
	return p.overruledBefore(s) == nil && p.ambiguousBefore(s) == nil
}

// candidate returns the cheapest of the steps that claim the same, or what is
// ambiguous when two of them aren't known to agree.
func (p *planner) candidate(from *planNode, group []*step) (*planNode, *ambiguity) {
	nodes := make([]*planNode, len(group))
	for i, s := range group {
		nodes[i] = newNode(from, s)
	}
	slices.SortStableFunc(nodes, func(a, b *planNode) int {
		return cmp.Or(cmp.Compare(a.hops, b.hops), cmp.Compare(a.bytes, b.bytes))
	})
	best := nodes[0]
	v := best.step.vertex()
	switch open, agree := p.judge(nodes); {
	case !agree:
		return nil, &ambiguity{steps: p.contenders(v), reason: "and differ"}
	case len(open) > 0:
		p.compare = append(p.compare, open...)
		return nil, &ambiguity{steps: p.contenders(v), reason: "and are being compared", pending: true}
	}
	for _, n := range nodes[1:] {
		best.alts = append(best.alts, n.step)
	}
	best.linked = best.step.chosen()
	return best, nil
}

// judge tells whether all nodes agree, as far as is known, and which comparisons are
// open.
func (p *planner) judge(nodes []*planNode) (open []comparison, agree bool) {
	for _, n := range nodes[1:] {
		switch c := (comparison{nodes[0], n}); p.verdict(c) {
		case undecided:
			open = append(open, c)
		case different:
			return nil, false
		}
	}
	return open, true
}

// serveAlone adds the full exports of ambiguous snapshots, and those that lost
// against --link, each under its own name: they are complete in themselves.
func (p *planner) serveAlone() {
	alone := map[vertex]bool{}
	for _, s := range p.full {
		v := s.vertex()
		own := vertex{s.to, p.own(s.file)}
		if (p.ambiguous[v] == nil && !p.overruled(s)) || alone[own] || p.served[own] != nil {
			continue
		}
		n := newNode(nil, s)
		n.of = own.of
		alone[own] = true
		p.nodes = append(p.nodes, n)
	}
	for _, n := range p.served {
		p.nodes = append(p.nodes, n)
	}
}

// order sorts the nodes: parents before children, siblings by age.
func (p *planner) order() {
	slices.SortFunc(p.compare, func(a, b comparison) int {
		return cmp.Or(compareSteps(a.a.step, b.a.step), compareSteps(a.b.step, b.b.step))
	})
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
			cmp.Compare(a.label(), b.label()),
			compareSteps(a.step, b.step))
	})
	return nodes
}
