package chain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
			if p.states[alt.file] == "unused" {
				p.states[alt.file] = "alternative"
			}
		}
	}
	p.explainAmbiguous()
	p.explainMissing()
	p.explainCycles()
	p.explainLinks()
	slices.SortFunc(p.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Snapshot, b.Snapshot), cmp.Compare(a.Kind, b.Kind))
	})
}

func (p *planner) add(kind Kind, snapshot string, s *step, reason, cure string) *Problem {
	p.problems = append(p.problems, Problem{
		Image: p.image, Snapshot: snapshot, File: s.file.path, Offset: -1, Kind: kind, Reason: reason, Cure: cure,
	})
	return &p.problems[len(p.problems)-1]
}

func (p *planner) explainAmbiguous() {
	for name, a := range p.ambiguous {
		whole := true
		for _, s := range a.steps {
			whole = whole && s.full
			if !s.full {
				p.states[s.file] = string(KindAmbiguous)
			}
		}
		reason := fmt.Sprintf("%d files claim it %s: %s", len(a.steps), a.reason, files(a.steps))
		cure := fmt.Sprintf("Say which one it is, for example with --link %s=%s", shellWord(a.steps[0].file.path), shellWord(name))
		if whole {
			reason += "; each is served under its own name"
		}
		p.add(KindAmbiguous, name, a.steps[0], reason, cure).Serving = whole
	}
}

// explainMissing says of each snapshot that no path leads to, what it lacks.
func (p *planner) explainMissing() {
	for v, claims := range p.claims {
		if p.served[v] != nil || p.ambiguous[v] != nil {
			continue
		}
		s := claims[0]
		reason, cure, kind := p.lack(s)
		p.states[s.file] = string(kind)
		p.add(kind, s.to, s, reason, cure)
	}
}

func (p *planner) lack(s *step) (reason, cure string, kind Kind) {
	need := s.from
	if p.circular(s) {
		return fmt.Sprintf("the steps that lead to it run in a circle through %s", quoted(need)),
			"A snapshot's name was used twice: move the older backups to a folder of their own", KindCycle
	}
	if a := p.ambiguous[need]; a != nil {
		if a.pending {
			return fmt.Sprintf("needs %s, which %d files claim, and they are being compared", quoted(need), len(a.steps)),
				"Wait for the comparison, or say which file it is with --link FILE=SNAPSHOT", KindAmbiguous
		}
		return fmt.Sprintf("needs %s, which %d files claim %s: %s", quoted(need), len(a.steps), a.reason, files(a.steps)),
			fmt.Sprintf("Say which one it is, for example with --link %s=%s", shellWord(a.steps[0].file.path), shellWord(need)), KindAmbiguous
	}
	if len(p.claims[need]) > 0 {
		return fmt.Sprintf("needs %s, which can't be served either", quoted(need)),
			fmt.Sprintf("See %s@%s", p.image, need), KindMissingParent
	}
	for _, f := range p.files {
		if f.fault != nil && f.claims(need) {
			return fmt.Sprintf("needs %s, and the file that ends there is %s: %s", quoted(need), f.fault.kind, f.path), f.fault.cure, KindMissingParent
		}
	}
	reason = fmt.Sprintf("needs %s, and no file ends there", quoted(need))
	if f := p.guess(need); f != "" {
		return reason, fmt.Sprintf("Try --link %s=%s", shellWord(f), shellWord(need)), KindMissingParent
	}
	return reason, fmt.Sprintf("Add the export that ends at %s, or name the file that holds it with --link FILE=%s", quoted(need), shellWord(need)), KindMissingParent
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
		if seen[v] || p.served[v] != nil {
			continue
		}
		seen[v] = true
		for _, o := range p.claims[v] {
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
func (p *planner) guess(snapshot string) string {
	for _, f := range p.files {
		nameless := f.fault != nil && f.fault.kind == KindUnsupported && f.fault.maybeRaw
		if f.fault == nil && len(f.steps) > 0 {
			nameless = !f.steps[len(f.steps)-1].HasTo
		}
		if nameless && strings.Contains(f.base(), snapshot) {
			return f.path
		}
	}
	return ""
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
			for n := p.served[s.from]; n != nil; n = n.parent {
				if n == target {
					p.states[s.file] = string(KindCycle)
					p.add(KindCycle, "", s,
						fmt.Sprintf("leads from %s back to %s, which it builds on", quoted(s.from), quoted(s.to)),
						"The snapshot's name was used twice: move this file and what builds on it to a folder of its own")
					break
				}
			}
		}
	}
}

// explainLinks names the links that came to nothing.
func (p *planner) explainLinks() {
	for _, f := range p.files {
		if f.link == "" || f.fault != nil || (p.linked[f.link] != nil && p.linked[f.link].file == f) {
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

func files(steps []*step) string {
	names := make([]string, 0, 3)
	for i, s := range steps {
		if i == 2 && len(steps) > 3 {
			names = append(names, fmt.Sprintf("and %d more", len(steps)-2))
			break
		}
		names = append(names, s.file.path)
	}
	return strings.Join(names, ", ")
}

// quoted shows a snapshot's name, with quotes where it isn't plain.
func quoted(name string) string {
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }) < 0 {
		return name
	}
	return fmt.Sprintf("%q", name)
}

// shellWord makes a word that a shell reads as name.
func shellWord(name string) string {
	if name != "" && strings.IndexFunc(name, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:@%+", r)
	}) < 0 {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
