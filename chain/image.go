package chain

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/repo"
)

// An imageState is an image and its files as they change. The fields but
// current belong to Library.mu.
type imageState struct {
	task
	name    string
	files   map[string]*fileState
	current atomic.Pointer[Image]
	known   chan struct{}
	live    []index.NodeID
	steps   int
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

	changed bool         // since its folder was read
	reading bool         // its folder is being read
	known   layout.Known // what the layout was told
	group   *groupState  // nil where only paths count
	place   layout.Place
	image   *imageState
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

// refresh brings an image up to date with its files, and publishes it.
func (l *Library) refresh(ctx context.Context, img *imageState) error {
	for {
		p := l.plan(img)
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

// plan makes the plan of an image as it is now.
func (l *Library) plan(img *imageState) *plan {
	return makePlan(img.name, l.planFiles(img), planRules{
		verdict: l.verdict, infer: l.layout.Guesses(), trust: l.trust, chosen: l.given != nil, elsewhere: l.elsewhere,
	})
}

// planFiles lists the files that the plan works with.
func (l *Library) planFiles(img *imageState) []*planFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*planFile, 0, len(img.files))
	for _, f := range img.files {
		// What was whole stays in the tree while it is being written to, or
		// can't be read: its reads end in errors until that is over.
		if f.info == nil || f.place.Left || (f.state != repo.Settled && f.info.Fault != nil) {
			continue
		}
		now := f.info.Pin
		if f.state == repo.Settled {
			now = f.pin
		}
		list = append(list, &planFile{
			path: f.path, typed: l.given[f.path], kind: f.info.Kind, pin: f.info.Pin, modTime: time.Unix(0, f.info.Pin.MTimeNs),
			steps: f.info.Steps, fault: f.info.Fault, link: l.linkOf(f.path).snapshot, name: f.place.Snapshot, holds: f.place.Holds, named: f.place.Snapshot != "" && f.place.Rule != layout.Auto,
			now: now, info: f.info, damage: f.damage,
		})
	}
	slices.SortFunc(list, func(a, b *planFile) int { return cmp.Compare(a.path, b.path) })
	return list
}

// buildAll builds the nodes of a plan, parents first.
func (l *Library) buildAll(ctx context.Context, p *plan) (map[*planNode]builtNode, error) {
	nodes := make(map[*planNode]builtNode, len(p.nodes))
	for _, n := range p.nodes {
		l.setNow(n.step.file.path)
		parent := nodes[n.parent]
		node, err := l.build(ctx, n, parent)
		if err != nil {
			return nil, err
		}
		l.setSource(node.Number, n.step.file.source())
		if err := l.findPartitions(ctx, &node, parent); err != nil {
			return nil, err
		}
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
