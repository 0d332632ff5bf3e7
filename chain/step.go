package chain

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"path"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/repo"
)

// A planFile is a backup file as the planner sees it.
type planFile struct {
	path    string // below the repository
	typed   string // how the user named it, "" if nobody did
	kind    fileKind
	pin     repo.Pin
	modTime time.Time
	steps   []stepInfo
	fault   *fault // not usable; its steps only explain what is missing
	link    string // what --link says its end is, "" when nothing
	name    string // what the layout says its nameless end is besides its base name
	holds   string // the snapshot that it may hold by its name, since others need that
	named   bool   // name is what a tool's names, or the user's pattern, say
	info    *fileInfo
	now     repo.Pin // what it must be opened with
	damage  *fault
}

// A fileKind is a format.
type fileKind string

const (
	kindRaw       fileKind = "raw"
	kindDiff      fileKind = "diff"
	kindContainer fileKind = "container"
)

// base is the file's name in its folder.
func (f *planFile) base() string { return path.Base(f.path) }

// shown is what messages call the file.
func (f *planFile) shown() string { return cmp.Or(f.typed, f.path) }

// source is where the file's bytes are read from now.
func (f *planFile) source() source { return source{f.path, f.now, f.info.unpacked} }

// linksEnd tells whether --link gives the file's nameless end a name, rather
// than choosing one of the snapshots that the file names.
func (f *planFile) linksEnd() bool {
	n := len(f.steps)
	return f.link != "" && n > 0 && !f.steps[n-1].HasTo && !f.claims(f.link)
}

// stem is the base name without the endings that say it is an export.
func (f *planFile) stem() string { return layout.Bare(f.shown()) }

// A vertex is a node of the graph of steps: a snapshot's name, and the base
// name of the file it is of where the name alone would mean another snapshot.
type vertex struct{ name, of string }

func (v vertex) label() string {
	if v.of == "" {
		return v.name
	}
	return v.name + "~" + v.of
}

// A step is one edge of the graph: a part of a file that leads from a
// snapshot, or from nothing, to another.
type step struct {
	file  *planFile
	part  int
	info  *stepInfo
	prev  *step  // the part of the same file that ends where this one starts
	from  string // meaningless when full
	full  bool
	to    string
	of    string // set where the name comes from the file and another file's header has it too
	known Known  // how to is known
}

// newStep makes the step of a part.
func (p *planner) newStep(f *planFile, part int) *step {
	info := &f.steps[part]
	s := &step{file: f, part: part, info: info, from: info.From, full: !info.HasFrom, to: info.To, known: KnownHeader}
	switch {
	case info.HasTo:
	case part == len(f.steps)-1 && f.linksEnd():
		s.to, s.known = f.link, KnownLink
	default:
		s.to, s.known = p.endOf(f)
		if f.kind != kindRaw && p.named[s.to] {
			s.of = p.own(f)
		}
	}
	return s
}

// vertex is where a step leads to.
func (s *step) vertex() vertex { return vertex{s.to, s.of} }

// chosen tells whether --link names the step.
func (s *step) chosen() bool { return s.file.link != "" && s.vertex() == vertex{name: s.file.link} }

// compareSteps orders steps by where they lie, so that plans are stable.
func compareSteps(a, b *step) int {
	return cmp.Or(cmp.Compare(a.file.path, b.file.path), cmp.Compare(a.part, b.part))
}

// A planNode is a snapshot that can be built.
type planNode struct {
	step    *step
	parent  *planNode
	name    string
	of      string
	id      index.NodeID
	depth   int
	hops    int // links from one file to another before it, which names alone vouch for
	bytes   int64
	alts    []*step // agree with step
	linked  bool    // the user chose this file
	short   bool    // a raw export that may have been cut off
	doubted bool    // something speaks against the link to its parent
	kids    int
}

func (n *planNode) label() string { return vertex{n.name, n.of}.label() }

// nodeID names the state after a step: the state before, the file's identity
// and the place in it.
func nodeID(parent index.NodeID, f *planFile, part int) (id index.NodeID) {
	pin := f.pin
	b := append([]byte("node 1\n"), parent[:]...)
	for _, v := range []uint64{pin.Inode, uint64(pin.Size), uint64(pin.MTimeNs), uint64(part)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	if f.info != nil && f.info.Packed != nil {
		b = append(b, packedID(f.path, pin)...)
	}
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

func newNode(parent *planNode, s *step) *planNode {
	n := &planNode{step: s, parent: parent, name: s.to, of: s.of, depth: 1, bytes: s.info.Bytes}
	var base index.NodeID
	if parent != nil {
		n.depth += parent.depth
		n.bytes += parent.bytes
		n.hops = parent.hops
		if parent.step.file != s.file {
			n.hops++
		}
		base = parent.id
	}
	n.id = nodeID(base, s.file, s.part)
	return n
}

// A queue has the cheapest node on top: fewest links that names alone vouch for, then
// fewest steps, then fewest bytes.
type queue []*planNode

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(cmp.Compare(a.hops, b.hops), cmp.Compare(a.depth, b.depth), cmp.Compare(a.bytes, b.bytes), compareSteps(a.step, b.step)) < 0
}
func (q *queue) Push(x any) { *q = append(*q, x.(*planNode)) }
func (q *queue) Pop() any {
	old := *q
	n := old[len(old)-1]
	*q = old[:len(old)-1]
	return n
}
