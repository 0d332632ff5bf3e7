package chain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"rbdbackupfs/internal/layout"
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
	switch {
	case p.trust, from == nil, from.step.file == s.file, from.step.chosen(), s.chosen(), layout.HasDate(s.from):
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
				quoted(c.file.shown()), shellWord(c.file.shown()), shellWord(s.from))
		}
	}
	return "If the names are right, trust them with --trust-names"
}

// short tells of a raw export that is smaller than what follows it says the image
// was, and returns who says so. An export that was killed leaves one, and nothing in
// it tells.
func (p *planner) short(n *planNode) *want {
	f, size := n.step.file, n.step.info.Size
	if f.kind != kindRaw || p.trust || n.step.known == KnownLink || n.step.chosen() {
		return nil
	}
	if p.infer {
		for _, w := range p.wanted[f.holds] {
			if w.info.HasSize && w.info.Size > size {
				return &w
			}
		}
	}
	for _, s := range p.fromIndex[n.name] {
		if s.info.HasSize && s.info.Size > size {
			return &want{s.file, s.info}
		}
	}
	return p.largerBefore(f, size)
}

// largerBefore is a full export of the image that is larger than a file, and older;
// nil for none.
func (p *planner) largerBefore(f *planFile, size int64) *want {
	if p.largest == nil { // so far, by age: there may be a full export for each day
		p.largest = []*step{}
		byAge := slices.SortedFunc(slices.Values(p.full), func(a, b *step) int {
			return cmp.Or(a.file.modTime.Compare(b.file.modTime), compareSteps(a, b))
		})
		for _, s := range byAge {
			if n := len(p.largest); n == 0 || s.info.Size > p.largest[n-1].info.Size {
				p.largest = append(p.largest, s)
			}
		}
	}
	older, _ := slices.BinarySearchFunc(p.largest, f.modTime.Add(-copiedTogether), func(s *step, t time.Time) int {
		return s.file.modTime.Compare(t)
	})
	if older == 0 || p.largest[older-1].info.Size <= size {
		return nil
	}
	return &want{p.largest[older-1].file, p.largest[older-1].info}
}

func (p *planner) explainShort() {
	for _, n := range p.nodes {
		if w := p.short(n); w != nil {
			n.short = true
			name := n.name
			if p.infer && p.wanted[n.step.file.holds] != nil {
				name = n.step.file.holds
			}
			p.add(KindSuspicious, n.label(), n.step,
				fmt.Sprintf("has %d bytes, and by %s the image has %d: an export that was killed is short, too",
					n.step.info.Size, quoted(w.file.shown()), w.info.Size),
				fmt.Sprintf("If the image was that small, say so with --link %s=%s; else make the export again",
					shellWord(n.step.file.shown()), shellWord(name))).Serving = true
		}
	}
}

// trustOf says what a node's last link rests on.
func (n *planNode) trustOf() Trust {
	switch {
	case n.linked, n.parent != nil && n.parent.linked:
		return TrustLink
	case n.short, n.parent != nil && n.parent.short && n.parent.step.file != n.step.file:
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
