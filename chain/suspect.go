package chain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/shellword"
)

// Names are all that links two files, and a name may have been used twice. What
// speaks against a link makes it suspicious: it isn't followed until the user
// says so.

const nearlyAWeek = 6 * 24 * time.Hour

// copiedTogether is how far apart the times of files may be, so that they say
// nothing of which was made first: who copies files may give them new ones.
const copiedTogether = time.Minute

// suspect is what speaks against a step from a node, "" if nothing does.
func (p *planner) suspect(from *planNode, s *step) string {
	if p.trust || from == nil || from.step.file == s.file || from.step.chosen() || s.chosen() {
		return ""
	}
	if w := p.short(from.step); w != nil {
		return fmt.Sprintf("needs %s, and %s, which ends there, %s", quoted(s.from), quoted(from.step.file.shown()), w.because(from.step.info.Size))
	}
	switch {
	case layout.HasDate(s.from):
		return ""
	case layout.UsedAgain(s.from):
		return fmt.Sprintf("needs %s, a name that is used again and again: nothing tells that %s is the one",
			quoted(s.from), quoted(from.step.file.shown()))
	case layout.IsWeekday(s.from) && s.file.modTime.Sub(from.step.file.modTime) > nearlyAWeek:
		return fmt.Sprintf("needs %s, and %s, which ends there, is a week older: there may have been another %s since then",
			quoted(s.from), quoted(from.step.file.shown()), quoted(s.from))
	case from.step.full && from.step.file.modTime.Sub(s.file.modTime) > copiedTogether:
		return fmt.Sprintf("needs %s, and %s, which ends there, is newer: the name was used twice, or the files' times aren't their own",
			quoted(s.from), quoted(from.step.file.shown()))
	}
	return ""
}

// trustCure says how to have a suspicious step followed.
func (p *planner) trustCure(s *step) string {
	for _, c := range p.claims[vertex{name: s.from}] {
		if p.served[c.vertex()] != nil && p.served[c.vertex()].step == c {
			return fmt.Sprintf("If %s is the right one, say so with --link %s=%s, or trust all names with --trust-names",
				quoted(c.file.shown()), shellword.Word(c.file.shown()), shellword.Word(s.from))
		}
	}
	return "If the names are right, trust them with --trust-names"
}

// short tells of a raw export that is smaller than others say the image was, and
// returns who says so. An export that was killed leaves one, and nothing in it tells.
// What is as large as another export is whole: images grow.
func (p *planner) short(s *step) *want {
	f, size := s.file, s.info.Size
	if f.kind != kindRaw || p.trust || s.known == KnownLink || s.chosen() {
		return nil
	}
	needs := p.fromIndex[s.to]
	if p.infer {
		needs = slices.Concat(needs, p.fromIndex[f.holds])
	}
	for _, o := range needs {
		if o.info.HasSize && o.info.Size > size {
			return &want{o.file, o.info}
		}
	}
	// Where nothing else names snapshots, names may be those of images that have a
	// folder in common.
	ofImage := len(needs) > 0 || len(p.named) > 0 || layout.HasDate(s.to) || layout.IsWeekday(s.to) || size == 0
	if ofImage && p.largest != nil && p.largest.info.Size > size && p.sizes[size] == 1 {
		return p.largest
	}
	return nil
}

// findSizes counts the sizes that the image has by its files.
func (p *planner) findSizes() {
	for _, f := range p.files {
		seen := map[int64]bool{}
		for part := range f.steps {
			s := &f.steps[part]
			if f.fault != nil || !s.HasSize {
				continue
			}
			if p.largest == nil || s.Size > p.largest.info.Size {
				p.largest = &want{f, s}
			}
			if !seen[s.Size] {
				seen[s.Size] = true
				p.sizes[s.Size]++
			}
		}
	}
}

// because says why an export is short.
func (w *want) because(size int64) string {
	return fmt.Sprintf("has %d bytes, and by %s the image has %d: an export that was killed is short, too", size, quoted(w.file.shown()), w.info.Size)
}

// explainDoubts tells what speaks against the steps that are taken all the same.
func (p *planner) explainDoubts() {
	for _, n := range p.nodes {
		why := p.doubts[n.step]
		if why == "" || n.parent == nil {
			continue
		}
		n.doubted = true
		p.add(KindSuspicious, n.label(), n.step, why, "Check it, and say that it is right with --trust-names").Serving = true
	}
}

func (p *planner) explainShort() {
	for _, n := range p.nodes {
		w := p.short(n.step)
		if w == nil {
			continue
		}
		n.short = true
		f, name := n.step.file, n.name
		if p.infer && p.wanted[f.holds] != nil {
			name = f.holds
		}
		p.states[f] = string(KindSuspicious)
		p.add(KindSuspicious, n.label(), n.step, w.because(n.step.info.Size),
			fmt.Sprintf("If the image was that small, say so with --link %s=%s; else make the export again",
				shellword.Word(f.shown()), shellword.Word(name))).Serving = true
	}
}

// trustOf says what a node's last link rests on.
func (n *planNode) trustOf() Trust {
	switch {
	case n.linked, n.parent != nil && n.parent.linked:
		return TrustLink
	case n.short, n.doubted:
		return TrustSuspicious
	case n.parent == nil, n.parent.step.file == n.step.file:
		return TrustVerified
	}
	return TrustByName
}

// A want is a part of a file that needs a snapshot.
type want struct {
	file *planFile
	info *stepInfo
}

// findWanted finds the snapshots that steps start from and no header names as an
// end.
func (p *planner) findWanted() {
	for _, f := range p.files {
		p.bases[f.base()]++
		if f.fault != nil {
			continue
		}
		for part := range f.steps {
			if s := &f.steps[part]; s.HasFrom && !p.named[s.From] {
				p.wanted[s.From] = append(p.wanted[s.From], want{f, s})
			}
		}
	}
}

// endOf names the end of a file that doesn't say it itself: as its base name or as
// the layout does, whichever is needed; or as the snapshot that occurs in its name,
// if that is needed and may be of its size.
func (p *planner) endOf(f *planFile) (string, Known) {
	name := cmp.Or(f.name, f.stem())
	switch {
	case f.named:
		return f.name, KnownName
	case p.wanted[f.stem()] != nil:
		return f.stem(), KnownName
	case !p.infer || p.wanted[name] != nil:
		return name, KnownName
	}
	last, steps := &f.steps[len(f.steps)-1], p.wanted[f.holds]
	if steps == nil || last.HasFrom && last.From == f.holds || !fits(last, steps) {
		return name, KnownName
	}
	return f.holds, KnownInferred
}

// fits tells whether the image may have been as large as what starts from it
// says.
func fits(end *stepInfo, wants []want) bool {
	return !slices.ContainsFunc(wants, func(w want) bool { return w.info.HasSize && end.HasSize && w.info.Size != end.Size })
}

// own is what tells a file from all others of the image.
func (p *planner) own(f *planFile) string {
	if p.bases[f.base()] > 1 {
		return f.path
	}
	return f.base()
}

// noteLinks says of each part of a file where it leads, and what that rests on.
func (p *planner) noteLinks() {
	for _, claims := range p.claims {
		for _, s := range claims {
			link := Link{File: s.file.path, Part: s.part, To: s.to, Known: s.known, Trust: TrustByName, Bytes: s.info.Bytes}
			switch {
			case s.full:
				link.Trust = TrustVerified
			case p.suspects[s] != "":
				link.Trust = TrustSuspicious
			}
			if !s.full {
				link.From = s.from
			}
			p.links[stepKey{s.file.path, s.part}] = link
		}
	}
	for _, n := range p.nodes {
		key := stepKey{n.step.file.path, n.step.part}
		link := p.links[key]
		link.Trust, link.Alts = n.trustOf(), len(n.alts)
		p.links[key] = link
	}
}
