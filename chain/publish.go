package chain

import (
	"cmp"
	"slices"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/repo"
)

// publish makes the image that a plan and its nodes stand for, and tells what
// changed.
func (l *Library) publish(img *imageState, p *plan, nodes map[*planNode]builtNode) {
	next := &Image{Name: img.name, State: StateReady, Problems: p.problems}
	made := make(map[*planNode]*Snapshot, len(p.nodes))
	live := make([]index.NodeID, 0, len(p.nodes))
	for _, n := range p.nodes {
		s := newSnapshot(img.name, n, nodes[n], made[n.parent])
		made[n] = s
		live = append(live, n.id)
		next.Snapshots = append(next.Snapshots, s)
		if n.kids == 0 && (next.Latest == nil || newer(s, next.Latest)) {
			next.Latest = s
		}
	}
	l.mu.Lock()
	next.Files = img.fileList(p)
	next.Problems = append(next.Problems, img.fileProblems()...)
	slices.SortStableFunc(next.Problems, func(a, b Problem) int { return cmp.Compare(a.File, b.File) })
	img.live = live
	if len(img.files) == 0 && !img.again {
		delete(l.images, img.name)
	}
	old := img.current.Swap(next)
	if old == nil {
		close(img.known)
	}
	l.mu.Unlock()
	if old == nil {
		l.tell(Event{Image: img.name, Appear: next.visible(), Vanish: !next.visible(), New: next.Snapshots})
		return
	}
	if e, changed := difference(old, next); changed {
		l.tell(e)
	}
}

func newSnapshot(image string, n *planNode, node builtNode, parent *Snapshot) *Snapshot {
	f := n.step.file
	s := &Snapshot{
		Image: image, Name: n.name, Of: n.of, Generation: uint64(node.Number), Size: node.Size, Allocated: node.Allocated,
		ModTime: f.modTime, Protected: n.step.info.Protected, Meta: f.info.Meta, Parent: parent, Depth: n.depth, node: node.Node,
		Partitions: node.partitions,
		Step: Link{
			File: f.path, Part: n.step.part, To: n.name, Trust: n.trustOf(), Known: n.step.known, Bytes: n.step.info.Bytes, Alts: len(n.alts),
		},
	}
	if !n.step.full {
		s.Step.From = n.step.from
	}
	return s
}

// newer tells whether a tip is the latest rather than another one: of those that may
// be cut off only where there are no others.
func newer(a, b *Snapshot) bool {
	if short := a.Step.Trust == TrustSuspicious; short != (b.Step.Trust == TrustSuspicious) {
		return !short
	}
	return cmp.Or(a.ModTime.Compare(b.ModTime), cmp.Compare(a.Depth, b.Depth), cmp.Compare(a.Label(), b.Label())) > 0
}

// fileList lists the files with their states, with Library.mu held.
func (img *imageState) fileList(p *plan) []*File {
	states := make(map[string]string, len(p.states))
	for f, state := range p.states {
		states[f.path] = state
	}
	list := make([]*File, 0, len(img.files))
	for _, f := range img.files {
		out := &File{Path: f.path, Size: f.pin.Size, ModTime: time.Unix(0, f.pin.MTimeNs), State: states[f.path]}
		if f.info != nil {
			out.Format = f.info.Format
			for i := range f.info.Steps {
				if link, ok := p.links[stepKey{f.path, i}]; ok {
					out.Links = append(out.Links, link)
				}
			}
		}
		switch {
		case f.place.Left:
			out.State = string(KindLeftOut)
		case f.damage != nil:
			out.State = string(KindDamaged)
		case f.state == repo.Unsettled:
			out.State = string(KindUnsettled)
		case f.state == repo.Unreadable:
			out.State = string(KindUnreadable)
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// fileProblems says what is wrong with single files, with Library.mu held.
func (img *imageState) fileProblems() (list []Problem) {
	add := func(f *fileState, t fault, serving bool) {
		list = append(list, Problem{
			Image: img.name, File: f.path, Offset: t.offset, Kind: t.kind, Reason: t.reason, Cure: t.cure, Serving: serving,
		})
	}
	for _, f := range img.files {
		switch {
		case f.state == repo.Unsettled:
			add(f, fault{kind: KindUnsettled, reason: cmp.Or(f.why, "is being written"), cure: cmp.Or(f.cure, "It appears once its writer is done"), offset: -1}, true)
			continue
		case f.damage != nil:
			add(f, *f.damage, false)
			continue
		case f.state == repo.Unreadable:
			add(f, fault{kind: KindUnreadable, reason: cmp.Or(f.why, "can't be read"), cure: f.cure, offset: -1}, false)
			continue
		case f.place.Left && f.info != nil && (f.info.Fault == nil || !f.info.Fault.sideCar):
			add(f, fault{
				kind: KindLeftOut, reason: "isn't named as the layout says", offset: -1,
				cure: "Leave it so, name it otherwise, or take another --layout",
			}, true)
			continue
		case f.info == nil:
			continue
		}
		if t := f.info.Fault; t != nil {
			add(f, *t, t.sideCar)
		}
		for _, t := range f.info.Warn {
			add(f, t, true)
		}
	}
	return list
}

// difference tells what changed from one state of an image to the next.
func difference(old, next *Image) (Event, bool) {
	e := Event{Image: next.Name, Appear: !old.visible() && next.visible(), Vanish: old.visible() && !next.visible()}
	before := make(map[string]*Snapshot, len(old.Snapshots))
	for _, s := range old.Snapshots {
		before[s.Label()] = s
	}
	for _, s := range next.Snapshots {
		was := before[s.Label()]
		if was != nil && was.node == s.node && slices.Equal(was.Partitions, s.Partitions) {
			delete(before, s.Label())
			continue
		}
		e.New = append(e.New, s)
	}
	for _, s := range old.Snapshots {
		if before[s.Label()] != nil {
			e.Gone = append(e.Gone, s)
		}
	}
	e.Latest = (old.Latest == nil) != (next.Latest == nil) || old.Latest != nil && old.Latest.Label() != next.Latest.Label()
	e.Problem = !slices.Equal(old.Problems, next.Problems)
	return e, e.Appear || e.Vanish || e.Latest || e.Problem || len(e.New)+len(e.Gone) > 0
}
