package chain

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/repo"
)

// drawScene draws a repository of few names, so that forks, circles, double
// claims and gaps are the rule.
func drawScene(t *rapid.T) *scene {
	s := &scene{verdicts: map[[2]string]verdict{}}
	name := rapid.SampledFrom([]string{"s1", "s2", "last", "2024-05-01", "f0", "f1"})
	links := rapid.Bool().Draw(t, "links")
	for i := range rapid.IntRange(1, 10).Draw(t, "files") {
		f := &planFile{
			path: fmt.Sprintf("f%d.diff", i), pin: repo.Pin{Inode: uint64(i + 1)}, info: &fileInfo{},
			kind:    rapid.SampledFrom([]fileKind{kindDiff, kindDiff, kindContainer, kindRaw}).Draw(t, "kind"),
			modTime: time.Unix(40*rapid.Int64Range(0, 3).Draw(t, "mtime"), 0),
		}
		f.steps = drawSteps(t, f.kind, name)
		switch state := rapid.IntRange(0, 9).Draw(t, "state"); {
		case state == 0 && links:
			f.link = name.Draw(t, "link")
		case state == 1:
			f.fault = &fault{kind: KindIncomplete}
		}
		for _, o := range s.files {
			v := rapid.SampledFrom([]verdict{same, same, different, undecided}).Draw(t, "verdict")
			s.verdicts[pathPair(o.path, f.path)] = v
		}
		s.files = append(s.files, f)
	}
	return s
}

func drawSteps(t *rapid.T, kind fileKind, name *rapid.Generator[string]) (steps []stepInfo) {
	n := 1
	if kind == kindContainer {
		n = rapid.IntRange(1, 4).Draw(t, "parts")
	}
	ends := rapid.SliceOfNDistinct(name, n, n, rapid.ID).Draw(t, "ends")
	for i, to := range ends {
		s := stepInfo{Bytes: rapid.Int64Range(0, 3).Draw(t, "bytes"), To: to, HasTo: true}
		switch {
		case kind == kindRaw:
		case i > 0:
			s.From, s.HasFrom = steps[i-1].To, true
		case kind == kindDiff && rapid.IntRange(0, 3).Draw(t, "full") > 0:
			s.From, s.HasFrom = name.Draw(t, "from"), true
		}
		if kind == kindRaw || i == n-1 && rapid.IntRange(0, 4).Draw(t, "head") == 0 {
			s.To, s.HasTo = "", false
		}
		if rapid.IntRange(0, 3).Draw(t, "sized") == 0 {
			s.HasSize, s.Size = true, 1<<rapid.Int64Range(16, 17).Draw(t, "size")
		}
		steps = append(steps, s)
	}
	return steps
}

// TestRandomPlans holds what is true of every plan.
func TestRandomPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t)
		p := s.plan()
		checkPaths(t, p)
		checkCheapest(t, s, p)
		checkAncestors(t, s, p)
		checkTold(t, s, p)
		s.guess = rapid.Bool().Draw(t, "guess")
		want := s.String()
		checkTrust(t, s)
		s.files = rapid.Permutation(s.files).Draw(t, "order")
		if got := s.String(); got != want {
			t.Fatalf("another order, another plan:\n%s\nwas\n%s", got, want)
		}
	})
}

// checkTrust: nothing is served over a link that something speaks against, unless
// the user chose it.
func checkTrust(t *rapid.T, s *scene) {
	for _, n := range s.plan().nodes {
		if !s.guess || n.parent == nil || n.parent.step.file == n.step.file || n.parent.step.chosen() || n.step.chosen() {
			continue
		}
		older := n.parent.step.file.modTime.Sub(n.step.file.modTime) <= time.Minute
		if from := n.step.from; from != "2024-05-01" && (from == "last" || n.parent.step.full && !older) {
			t.Fatalf("%s is served over %s", n.label(), pathOf(n))
		}
	}
}

// endOf is where a step leads to, told from the file alone: the name, and
// whether it is the file's own.
func endOf(s *step) string {
	switch f := s.file; {
	case s.info.HasTo:
		return s.info.To
	case f.link != "" && s.part == len(f.steps)-1 && !f.claims(f.link):
		return f.link
	default:
		return layout.Bare(f.path)
	}
}

// checkPaths: every path begins with a full step, its names match, parents
// come before children, and no two labels are the same.
func checkPaths(t *rapid.T, p *plan) {
	seen := map[*planNode]bool{}
	labels := map[string]bool{}
	for _, n := range p.nodes {
		seen[n] = true
		if labels[n.label()] {
			t.Fatalf("%s is served twice", n.label())
		}
		labels[n.label()] = true
		if n.step.file.fault != nil {
			t.Fatalf("%s is served from a broken file", n.label())
		}
		if n.name != endOf(n.step) {
			t.Fatalf("%s is served as %s", stepName(n.step), n.label())
		}
		depth, hops, bytes := 1, 0, n.step.info.Bytes
		switch {
		case n.parent == nil && n.step.info.HasFrom:
			t.Fatalf("the path to %s begins with an increment", n.label())
		case n.parent == nil:
		case !n.step.info.HasFrom || n.parent.name != n.step.info.From || n.parent.of != "":
			t.Fatalf("%s can't build on %s", stepName(n.step), n.parent.label())
		case !seen[n.parent]:
			t.Fatalf("%s comes before its parent", n.label())
		default:
			depth, hops, bytes = depth+n.parent.depth, n.parent.hops, bytes+n.parent.bytes
			if n.parent.step.file != n.step.file {
				hops++
			}
		}
		if got, want := (cost{n.hops, n.depth, n.bytes}), (cost{hops, depth, bytes}); got != want {
			t.Fatalf("%s costs %v; its path costs %v", n.label(), got, want)
		}
	}
}

// A cost is what a path is judged by.
type cost struct {
	hops  int // from one file to another
	steps int
	bytes int64
}

func (c cost) compare(o cost) int {
	return cmp.Or(cmp.Compare(c.hops, o.hops), cmp.Compare(c.steps, o.steps), cmp.Compare(c.bytes, o.bytes))
}

// checkCheapest: whatever a step leads to from what is served is served as well, and no
// step makes a path cheaper. Where links or ambiguities forbid steps it may.
func checkCheapest(t *rapid.T, s *scene, p *plan) {
	if s.linked() || slices.ContainsFunc(p.problems, func(p Problem) bool { return p.Kind == KindAmbiguous }) {
		return
	}
	served := map[string]*planNode{}
	for _, n := range p.nodes {
		if n.of == "" {
			served[n.name] = n
		}
	}
	for _, f := range s.files {
		for part := range f.steps {
			end, c, ok := s.costOf(f, part, served)
			if !ok {
				continue
			}
			n := served[end]
			if n == nil {
				t.Fatalf("%s isn't served and could be at %v", end, c)
			}
			if got := (cost{n.hops, n.depth, n.bytes}); got.compare(c) > 0 {
				t.Fatalf("%s costs %v, not %v", n.label(), got, c)
			}
		}
	}
}

func (s *scene) linked() bool {
	return slices.ContainsFunc(s.files, func(f *planFile) bool { return f.link != "" })
}

// named tells whether a header of a usable file has a name.
func (s *scene) named(name string) bool {
	return slices.ContainsFunc(s.files, func(f *planFile) bool { return f.fault == nil && f.claims(name) })
}

// costOf is where a step leads to, unless only its file has that name, and at what cost.
func (s *scene) costOf(f *planFile, part int, served map[string]*planNode) (end string, c cost, ok bool) {
	info := f.steps[part]
	end = info.To
	if !info.HasTo {
		end = layout.Bare(f.path)
		if f.kind != kindRaw && s.named(end) {
			return end, c, false
		}
	}
	c = cost{0, 1, info.Bytes}
	if info.HasFrom {
		from := served[info.From]
		if from == nil {
			return end, c, false
		}
		c = cost{from.hops, from.depth + 1, from.bytes + info.Bytes}
		if from.step.file != f {
			c.hops++
		}
	}
	return end, c, f.fault == nil
}

// checkAncestors: whatever is built on is what all files that claim the same step agree
// on, in size too, or the user chose it.
func checkAncestors(t *rapid.T, s *scene, p *plan) {
	linked := map[string]bool{}
	for _, f := range s.files {
		if f.fault == nil && f.link != "" {
			linked[f.link] = true
		}
	}
	for _, n := range p.nodes {
		for at := n.parent; at != nil; at = at.parent {
			if linked[at.name] {
				continue
			}
			size := int64(math.MinInt64)
			for _, f := range s.files {
				for part, info := range f.steps {
					if f.fault != nil || !info.HasTo || info.To != at.name {
						continue
					}
					if info.HasSize && size >= 0 && size != info.Size && len(linked) == 0 {
						t.Fatalf("%s builds on %s, which has two sizes", n.label(), at.label())
					}
					if info.HasSize {
						size = info.Size
					}
					checkRival(t, s, at, f, part)
				}
			}
		}
	}
}

// checkRival fails when a part of a file claims the step that led to a node
// and may hold other bytes.
func checkRival(t *rapid.T, s *scene, at *planNode, f *planFile, part int) {
	mine := at.step
	info := f.steps[part]
	if f == mine.file || info.HasFrom != mine.info.HasFrom || info.From != mine.info.From {
		return
	}
	if s.linked() || info.From == info.To && info.HasFrom {
		return
	}
	if f.kind == kindContainer && part > 0 && info.HasFrom {
		return // its own history may put it out of the question
	}
	if v := s.verdicts[pathPair(f.path, mine.file.path)]; v != same {
		t.Fatalf("%s is built on, and %s may differ from %s", at.label(), f.path, mine.file.path)
	}
}

// checkTold: every name that a usable file ends at is served, or a problem
// says why not.
func checkTold(t *rapid.T, s *scene, p *plan) {
	told := map[string]bool{}
	for _, n := range p.nodes {
		told[n.name] = true
	}
	for _, problem := range p.problems {
		told[problem.Snapshot] = true
		if problem.Reason == "" || problem.Cure == "" && problem.Kind != KindMissingParent {
			t.Fatalf("no reason or cure: %+v", problem)
		}
	}
	for _, f := range s.files {
		for _, info := range f.steps {
			if f.fault == nil && info.HasTo && !told[info.To] {
				t.Fatalf("not a word of %s", info.To)
			}
		}
	}
}

var linkCure = regexp.MustCompile(`--link (\S+)=(\S+?)( instead$|, or trust|; else|; if they|$)`)

// TestCuresWork does what each problem says, and the problem is gone.
func TestCuresWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t)
		s.guess = rapid.Bool().Draw(t, "guess")
		for _, problem := range s.plan().problems {
			cure := linkCure.FindStringSubmatch(problem.Cure)
			if len(cure) == 0 || cure[1] == "FILE" {
				continue
			}
			i := slices.IndexFunc(s.files, func(f *planFile) bool { return f.path == cure[1] })
			if i < 0 || s.files[i].link == cure[2] {
				t.Fatalf("no cure: %s", problem)
			}
			old := s.files[i].link
			s.files[i].link = cure[2]
			if slices.Contains(s.plan().problems, problem) {
				t.Fatalf("the cure changes nothing: %s", problem)
			}
			s.files[i].link = old
		}
	})
}
