package chain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

// An imageState is an image and its files as they change. The fields but
// current belong to Library.mu; a fileState's info and damage are set by the
// one worker that refreshes the image.
type imageState struct {
	name    string
	files   map[string]*fileState
	current atomic.Pointer[Image]
	known   chan struct{}
	live    []index.NodeID
	steps   int
	queued  bool
	running bool
	again   bool
}

// A fileState is a backup file: what lies there, and what is known of it.
type fileState struct {
	path   string
	pin    repo.Pin
	state  repo.State
	why    string
	cure   string
	info   *fileInfo // of the contents last found whole, or of those now
	read   repo.Pin  // of the contents that were read last
	damage *fault    // info is of contents that were whole and are no more

	scanned atomic.Int64 // up to where it was read, bytes; of a compressed one
}

// bytesDone is how much of the file is known.
func (f *fileState) bytesDone() int64 {
	if f.info != nil {
		return f.pin.Size
	}
	return min(f.scanned.Load(), f.pin.Size)
}

// see takes over what the repository says of the file.
func (f *fileState) see(now repo.File) {
	f.state, f.why, f.cure = now.State, now.Why, now.Cure
	if now.Pin.Inode != 0 {
		f.pin = now.Pin
	}
}

func (img *imageState) visible() bool { return img.current.Load().visible() }

// visible tells whether the image is worth a folder. One not known yet is.
func (i *Image) visible() bool {
	return i == nil || len(i.Snapshots) > 0 || slices.ContainsFunc(i.Problems, func(p Problem) bool { return !p.Serving })
}

const scanParallel = 4

// refresh brings an image up to date with its files, and publishes it.
func (l *Library) refresh(ctx context.Context, img *imageState) error {
	if err := l.scan(ctx, img); err != nil {
		return err
	}
	for {
		files := l.planFiles(img)
		p := makePlan(img.name, files, l.verdict)
		l.mu.Lock()
		img.steps = len(p.nodes)
		l.mu.Unlock()
		nodes, err := l.buildAll(ctx, p)
		var broken *buildError
		if errors.As(err, &broken) {
			l.breakFile(img, broken)
			continue
		}
		if err != nil {
			return err
		}
		l.publish(img, p, nodes)
		if len(p.compare) == 0 {
			return nil
		}
		for _, c := range p.compare {
			err := l.compareNodes(ctx, c)
			if errors.As(err, &broken) {
				l.breakFile(img, broken)
			} else if err != nil {
				return err
			}
		}
	}
}

// breakFile notes that a file can't be used as it is now. It isn't kept: the
// next session tries again.
func (l *Library) breakFile(img *imageState, e *buildError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := img.files[e.file.path]; f != nil && f.info != nil {
		info := *f.info
		info.Fault = e.fault
		f.info, f.damage = &info, nil
	}
}

// scan reads the headers of all files whose contents aren't known.
func (l *Library) scan(ctx context.Context, img *imageState) error {
	l.mu.Lock()
	var todo []*fileState
	for _, f := range img.files {
		if f.state == repo.Settled && l.needsScan(f) {
			todo = append(todo, f)
		} else if f.state == repo.Unreadable && f.info != nil && f.info.Fault == nil {
			f.damage = &fault{kind: KindDamaged, reason: "can't be read: " + f.why, cure: f.cure, offset: -1}
		}
	}
	l.mu.Unlock()
	slices.SortFunc(todo, func(a, b *fileState) int { return cmp.Compare(a.path, b.path) })
	notes := map[string][]byte{}
	var mu sync.Mutex
	var group sync.WaitGroup
	room := make(chan struct{}, scanParallel)
	for _, f := range todo {
		room <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-room }()
			if note := l.scanOne(ctx, img, f); note != nil {
				mu.Lock()
				notes[filePrefix+f.path] = note
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.ix.PutNotes(notes)
}

// needsScan tells, with mu held, whether other contents lie there than were read.
func (l *Library) needsScan(f *fileState) bool {
	if f.info == nil || f.read != f.pin && f.info.Pin != f.pin {
		return true
	}
	if f.info.Pin == f.pin {
		f.damage = nil
	}
	linked := l.linkOf(f.path) != ""
	unsure := f.info.Fault != nil && f.info.Fault.maybeRaw
	return unsure && linked || f.info.Kind == kindRaw && !linked && !isRawName(exportName(f.path, f.info.Packed != nil)) && l.given == nil
}

// scanOne reads one file and returns its note, if it is to be kept.
func (l *Library) scanOne(ctx context.Context, img *imageState, f *fileState) []byte {
	l.mu.Lock()
	pin, old := f.pin, f.info
	l.now = f.path
	l.mu.Unlock()
	info, err := l.scanFile(ctx, f, pin, l.linkOf(f.path) != "")
	var damage *fault
	switch {
	case err != nil:
		// It changed again, or can't be read. The repository tells when that is over.
		if old != nil && old.Fault == nil {
			info, damage = old, readFault(err)
			damage.kind = KindDamaged
		} else {
			info = &fileInfo{Pin: pin, Format: "unknown", Fault: readFault(err)}
		}
	case old != nil && old.Fault == nil && l.shortened(img, f.path, old, info):
		info, damage = old, &fault{
			kind: KindDamaged, offset: pin.Size,
			reason: fmt.Sprintf("is cut off at %d of %d bytes since it was indexed; what is left is served", pin.Size, old.Pin.Size),
			cure:   "Fetch the file from another copy, or make the export again",
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = ""
	f.info, f.damage = info, damage
	if err == nil {
		f.read = pin
	}
	if err != nil || damage != nil {
		return nil
	}
	note, err := json.Marshal(info)
	if err != nil {
		return nil
	}
	return note
}

// shortened tells whether what lies there now is the beginning of the file
// that was indexed: only then may what is left be served.
func (l *Library) shortened(img *imageState, name string, old, now *fileInfo) bool {
	if now.Pin.Inode != old.Pin.Inode || now.Pin.Size >= old.Pin.Size || old.Packed != nil {
		return false // what is packed can be read whole or not at all
	}
	h, err := l.repo.OpenFile(name, now.Pin)
	if err != nil {
		return false
	}
	defer h.Release()
	sums, err := samples(h, old.Pin.Size, now.Pin.Size)
	if err != nil || len(sums) > len(old.Sums) || !slices.Equal(sums, old.Sums[:len(sums)]) {
		return false
	}
	if old.Kind == kindRaw {
		return now.Kind == kindRaw || now.Pin.Size == 0
	}
	if now.Fault == nil || now.Fault.kind != KindIncomplete {
		return false
	}
	return l.beginsAlike(img, name, old, h)
}

// beginsAlike compares the records that are left with the index. A file that
// was written anew and cut off differs in them.
func (l *Library) beginsAlike(img *imageState, name string, old *fileInfo, h *repo.Handle) bool {
	nodes := l.nodesOf(img, name)
	r, err := rbddiff.NewReader(io.NewSectionReader(h, 0, h.Size()))
	part := -1
	for err == nil {
		var rec rbddiff.Record
		if rec, err = r.Next(); err != nil {
			break
		}
		if rec.Kind == rbddiff.DiffStart {
			part++
		}
		if part < 0 {
			continue
		}
		if part >= len(old.Steps) || !sameStep(rec, old.Steps[part]) || !l.indexed(rec, nodes[part]) {
			return false
		}
	}
	return errors.Is(err, rbddiff.ErrIncomplete)
}

func sameStep(rec rbddiff.Record, s stepInfo) bool {
	switch rec.Kind {
	case rbddiff.From:
		return s.HasFrom && rec.Name == s.From
	case rbddiff.To:
		return s.HasTo && rec.Name == s.To
	case rbddiff.Size:
		return s.HasSize && rec.Size == s.Size
	}
	return true
}

// nodesOf returns what the index has of each part of a file.
func (l *Library) nodesOf(img *imageState, name string) map[int][]*index.Node {
	nodes := map[int][]*index.Node{}
	for _, n := range makePlan(img.name, l.planFiles(img), l.verdict).nodes {
		if node, ok := l.ix.Node(n.id); ok && n.step.file.path == name {
			nodes[n.step.part] = append(nodes[n.step.part], node)
		}
	}
	return nodes
}

// indexed tells whether the index agrees with where a data record stands.
func (l *Library) indexed(rec rbddiff.Record, nodes []*index.Node) bool {
	if rec.Kind != rbddiff.Data {
		return true
	}
	for _, n := range nodes {
		segs, err := l.ix.Map(n).Append(nil, rec.Offset, rec.Offset+rec.Length)
		if err != nil {
			return false
		}
		for _, s := range segs {
			if s.Source == n.Number && s.Pos != rec.DataPos+s.Off-rec.Offset {
				return false
			}
		}
	}
	return true
}

// planFiles lists the files that the plan works with.
func (l *Library) planFiles(img *imageState) []*planFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*planFile, 0, len(img.files))
	for _, f := range img.files {
		// What was whole stays in the tree while it is being written to, or
		// can't be read: its reads end in errors until that is over.
		if f.info == nil || (f.state != repo.Settled && f.info.Fault != nil) {
			continue
		}
		now := f.info.Pin
		if f.state == repo.Settled {
			now = f.pin
		}
		list = append(list, &planFile{
			path: f.path, typed: l.given[f.path], kind: f.info.Kind, pin: f.info.Pin, modTime: time.Unix(0, f.info.Pin.MTimeNs),
			steps: f.info.Steps, fault: f.info.Fault, link: l.linkOf(f.path), now: now, info: f.info, damage: f.damage,
		})
	}
	slices.SortFunc(list, func(a, b *planFile) int { return cmp.Compare(a.path, b.path) })
	return list
}

// buildAll builds the nodes of a plan, parents first.
func (l *Library) buildAll(ctx context.Context, p *plan) (map[*planNode]*index.Node, error) {
	nodes := make(map[*planNode]*index.Node, len(p.nodes))
	for _, n := range p.nodes {
		l.setNow(n.step.file.path)
		node, err := l.build(ctx, n, nodes[n.parent])
		if err != nil {
			return nil, err
		}
		l.setSource(node.Number, n.step.file.source())
		nodes[n] = node
	}
	l.setNow("")
	return nodes, nil
}

func (l *Library) setNow(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = name
}
