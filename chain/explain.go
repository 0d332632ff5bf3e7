package chain

import (
	"cmp"
	"fmt"
	"slices"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/shellword"
)

// explain fills in the problems and the states of the files.
func (p *planner) explain() {
	for _, f := range p.files {
		p.states[f] = "unused"
		if f.fault != nil {
			p.states[f] = string(f.fault.kind)
		}
	}
	for _, n := range p.nodes {
		p.states[n.step.file] = "ok"
	}
	for _, n := range p.nodes {
		for _, alt := range n.alts {
			p.mark(alt.file, "alternative")
		}
	}
	p.explainAmbiguous()
	p.explainMissing()
	p.explainCycles()
	p.explainLinks()
	p.explainShort()
	p.explainDoubts()
	p.noteLinks()
	slices.SortFunc(p.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Snapshot, b.Snapshot), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
}

func (p *planner) add(kind Kind, snapshot string, s *step, reason, cure string) *Problem {
	p.problems = append(p.problems, Problem{
		Image: p.image, Snapshot: snapshot, File: s.file.path, Offset: -1, Kind: kind, Reason: reason, Cure: cure,
	})
	return &p.problems[len(p.problems)-1]
}

// mark says what became of a file that nothing was known of.
func (p *planner) mark(f *planFile, state string) {
	if p.states[f] == "unused" {
		p.states[f] = state
	}
}

func (p *planner) explainAmbiguous() {
	for v, a := range p.ambiguous {
		whole := true
		for _, s := range a.steps {
			whole = whole && s.full
			p.mark(s.file, string(KindAmbiguous))
		}
		reason := a.String()
		if whole {
			reason += "; each is served under its own name"
		}
		p.add(KindAmbiguous, v.label(), a.steps[0], reason, p.choose(a, a.steps[0])).Serving = whole
	}
}

// String says who claims the snapshot.
func (a *ambiguity) String() string {
	return fmt.Sprintf("%d files claim it %s: %s", len(a.steps), a.reason, files(a.steps))
}

// choose is the cure of an ambiguity that is in the way of s: a link for the
// file of s where that is one of those to choose from, and there for the first
// snapshot that is ambiguous, since the later ones build on it.
func (p *planner) choose(a *ambiguity, s *step) string {
	pick := a.steps[0]
	for _, c := range a.steps {
		if c.file == s.file {
			pick = c
		}
	}
	for at := pick.prev; at != nil; at = at.prev {
		if p.ambiguous[at.vertex()] != nil {
			pick = at
		}
	}
	if pick.chosen() {
		return "Name one file for it with --link, not several"
	}
	link := fmt.Sprintf("for example with --link %s=%s", shellword.Word(pick.file.shown()), shellword.Word(pick.to))
	if a.pending {
		return "Wait for the comparison, or say which one it is, " + link
	}
	if p.infer {
		link += "; if they are of two images, with --link FILE=IMAGE@SNAPSHOT which image one is of"
	}
	return "Say which one it is, " + link
}

// explainMissing says of each snapshot that no path leads to, what it lacks.
func (p *planner) explainMissing() {
	for v, claims := range p.claims {
		if p.served[v] != nil || p.ambiguous[v] != nil {
			continue
		}
		s := p.telling(v)
		reason, cure, kind := p.lack(s)
		for _, c := range claims {
			p.mark(c.file, string(kind))
		}
		p.add(kind, v.label(), s, reason, cure)
	}
}

// telling returns the claim of a snapshot whose lack is to be told: of those
// that the user's links leave, one that isn't part of a circle.
func (p *planner) telling(v vertex) *step {
	claims := p.contenders(v)
	if len(claims) == 0 {
		return p.claims[v][0]
	}
	for _, s := range claims {
		if !p.circular(s) {
			return s
		}
	}
	return claims[0]
}

func (p *planner) lack(s *step) (reason, cure string, kind Kind) {
	need := vertex{name: s.from}
	if why := p.suspects[s]; why != "" {
		return why, p.trustCure(s), KindSuspicious
	}
	if o := p.overruledBefore(s); o != nil {
		return fmt.Sprintf("builds on %s in its own file, and --link names another file for that", quoted(o.to)),
			fmt.Sprintf("Move %s to a folder of its own, or use --link %s=%s instead",
				quoted(s.file.shown()), shellword.Word(s.file.shown()), shellword.Word(o.to)), KindAmbiguous
	}
	if a := p.ambiguous[need]; a != nil {
		return fmt.Sprintf("needs %s, and %s", quoted(s.from), a), p.choose(a, s), KindAmbiguous
	}
	if o := p.ambiguousBefore(s); o != nil {
		a := p.ambiguous[o.vertex()]
		return fmt.Sprintf("builds on %s in its own file, and %s", quoted(o.to), a), p.choose(a, s), KindAmbiguous
	}
	if p.circular(s) {
		return fmt.Sprintf("the steps that lead to it run in a circle through %s", quoted(s.from)),
			"A snapshot's name was used twice: move the older backups to a folder of their own", KindCycle
	}
	if len(p.claims[need]) > 0 {
		return fmt.Sprintf("needs %s, which can't be served either", quoted(s.from)),
			"See " + quoted(p.image+"@"+p.origin(need).label()), KindMissingParent
	}
	reason, cure = p.lackFile(s)
	return reason, cure, KindMissingParent
}

// origin goes back from a snapshot that can't be served to the one that the
// others lack.
func (p *planner) origin(v vertex) vertex {
	var way []vertex
	seen := map[vertex]bool{}
	for {
		if o, known := p.origins[v]; known {
			v = o
			break
		}
		way = append(way, v)
		seen[v] = true
		s := p.telling(v)
		need := vertex{name: s.from}
		if seen[need] || p.served[need] != nil || len(p.claims[need]) == 0 || p.ambiguous[need] != nil || p.overruledBefore(s) != nil || p.ambiguousBefore(s) != nil || p.circular(s) {
			break
		}
		v = need
	}
	for _, w := range way {
		p.origins[w] = v
	}
	return v
}

// lackFile says of a snapshot that no usable file ends at, which could.
func (p *planner) lackFile(s *step) (reason, cure string) {
	need := s.from
	for _, f := range p.files {
		if f.fault != nil && f.claims(need) {
			return fmt.Sprintf("needs %s, and the file that ends there is %s: %s", quoted(need), f.fault.kind, quoted(f.shown())), f.fault.cure
		}
	}
	if f := p.broken(need); f != nil {
		return fmt.Sprintf("needs %s, and %s, which ends there by its name, is %s", quoted(need), quoted(f.shown()), f.fault.kind), f.fault.cure
	}
	reason = fmt.Sprintf("needs %s, and no file ends there", quoted(need))
	if f := p.guess(need); f != nil {
		link := fmt.Sprintf("--link %s=%s", shellword.Word(f.shown()), shellword.Word(need))
		if f.fault == nil && !fits(&f.steps[len(f.steps)-1], p.wanted[need]) {
			return reason, fmt.Sprintf("If %s is what ends there, though its size is another one, say so with %s", quoted(f.shown()), link)
		}
		return reason, fmt.Sprintf("If %s is what ends there, say so with %s", quoted(f.shown()), link)
	}
	if f := p.onlyNameless(need, func(*planFile) bool { return p.infer }); f != nil {
		return reason, fmt.Sprintf("If %s is what ends there, say so with --link %s=%s", quoted(f.shown()), shellword.Word(f.shown()), shellword.Word(need))
	}
	if p.elsewhere != nil {
		if c := p.elsewhere(s.file, need); c != nil {
			return reason + " whose name says that it is of this image", p.joinCure(s, c)
		}
	}
	link := need
	if p.infer {
		link = p.image + "@" + need // wherever it lies
	}
	return reason, fmt.Sprintf("Add the export that ends at %s, or name the file that holds it with --link FILE=%s", quoted(need), shellword.Word(link))
}

// joinCure says how to have a step and a file of another image be of one.
func (p *planner) joinCure(s *step, c *candidate) string {
	if !c.ends {
		return fmt.Sprintf("If it is %s, say so with --link %s=%s", quoted(c.file), shellword.Word(c.file), shellword.Word(p.image+"@"+s.from))
	}
	return fmt.Sprintf("%s ends there. If both are of one image, say so with --link %s=%s, or with --layout plain if each folder is one",
		quoted(c.file), shellword.Word(s.file.shown()), shellword.Word(c.image+"@"+s.to))
}

// circular tells whether the steps before s lead back to where s ends.
func (p *planner) circular(s *step) bool {
	seen := map[string]bool{}
	todo := []string{s.from}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if v == s.to {
			return true
		}
		if seen[v] || p.served[vertex{name: v}] != nil {
			continue
		}
		seen[v] = true
		for _, o := range p.claims[vertex{name: v}] {
			if !o.full {
				todo = append(todo, o.from)
			}
		}
	}
	return false
}

// claims tells whether one of the file's steps ends at a snapshot.
func (f *planFile) claims(snapshot string) bool {
	return slices.ContainsFunc(f.steps, func(s stepInfo) bool { return s.HasTo && s.To == snapshot })
}

// guess returns the file that most probably holds a snapshot that no file
// ends at: one without a name of its own that has it in its base name.
func (p *planner) guess(snapshot string) *planFile {
	for _, f := range p.files {
		if f.link == "" && layout.HasWord(f.base(), snapshot) && p.couldEnd(f, snapshot) {
			return f
		}
	}
	return p.onlyNameless(snapshot, func(f *planFile) bool { return f.typed != "" })
}

// broken returns a file that can't be used, and has a snapshot in its name.
func (p *planner) broken(snapshot string) *planFile {
	for _, f := range p.files {
		if f.fault != nil && f.fault.kind != KindUnsupported && layout.HasWord(f.base(), snapshot) {
			return f
		}
	}
	return nil
}

// otherDate tells whether a file's name has a date, and isn't that of a snapshot.
func otherDate(f *planFile, snapshot string) bool {
	return layout.HasDate(snapshot) && layout.HasDate(f.stem()) && !layout.HasWord(f.base(), snapshot)
}

// onlyNameless returns the one file of some that --link could make end at a snapshot;
// nil where there are more, or none.
func (p *planner) onlyNameless(snapshot string, of func(*planFile) bool) (only *planFile) {
	for _, f := range p.files {
		if !of(f) || f.link != "" || otherDate(f, snapshot) || !p.couldEnd(f, snapshot) {
			continue
		}
		if f.fault == nil && !fits(&f.steps[len(f.steps)-1], p.wanted[snapshot]) {
			continue
		}
		if only != nil {
			return nil
		}
		only = f
	}
	return only
}

// couldEnd tells whether --link could make a file end at a snapshot that
// nothing ends at, and the file doesn't need that snapshot itself.
func (p *planner) couldEnd(f *planFile, snapshot string) bool {
	if f.fault != nil {
		return f.fault.kind == KindUnsupported && f.fault.maybeRaw && !f.fault.sideCar
	}
	n := len(f.steps)
	if n == 0 || f.steps[n-1].HasTo {
		return false
	}
	last := f.steps[n-1]
	return !last.HasFrom || !p.circular(&step{from: last.From, to: snapshot})
}

// explainCycles names the files whose steps lead back to where they came from.
func (p *planner) explainCycles() {
	for v, claims := range p.claims {
		target := p.served[v]
		if target == nil {
			continue
		}
		for _, s := range claims {
			if s.full || s == target.step {
				continue
			}
			if p.builtOn(vertex{name: s.from}, target) {
				p.mark(s.file, string(KindCycle))
				p.add(KindCycle, "", s,
					fmt.Sprintf("leads from %s back to %s, which it builds on", quoted(s.from), quoted(s.to)),
					"The snapshot's name was used twice: move this file and what builds on it to a folder of its own")
			}
		}
	}
}

// builtOn tells whether the path to v leads over target.
func (p *planner) builtOn(v vertex, target *planNode) bool {
	for n := p.served[v]; n != nil; n = n.parent {
		if n == target {
			return true
		}
	}
	return false
}

// explainLinks names the links that came to nothing.
func (p *planner) explainLinks() {
	for _, f := range p.files {
		if f.link == "" || f.fault != nil || f.linksEnd() || f.claims(f.link) {
			continue
		}
		ends := "nothing"
		if n := len(f.steps); n > 0 {
			ends = quoted(f.steps[n-1].To)
		}
		p.problems = append(p.problems, Problem{
			Image: p.image, File: f.path, Offset: -1, Kind: KindBadLink, Serving: true,
			Reason: fmt.Sprintf("--link says it ends at %s, and the file itself says %s", quoted(f.link), ends),
			Cure:   "Remove the --link: a name in a file can't be overruled",
		})
	}
}
