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

	"rbdbackupfs/index"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

const scanParallel = 4

// scan reads the headers of those files whose contents aren't known.
func (l *Library) scan(ctx context.Context, files []*fileState) error {
	l.mu.Lock()
	var todo []*fileState
	for _, f := range files {
		if f.state == repo.Settled && l.needsScan(f) {
			todo = append(todo, f)
		} else if f.state == repo.Unreadable && f.info != nil && f.info.Fault == nil {
			f.damage = &fault{kind: KindDamaged, reason: "can't be read: " + f.why, cure: f.cure, offset: -1}
		}
	}
	l.mu.Unlock()
	slices.SortFunc(todo, func(a, b *fileState) int { return cmp.Compare(a.path, b.path) })
	var errs []error
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
			note := l.scanOne(ctx, f)
			if note == nil {
				return
			}
			// At once: the next file may be one that takes hours to unpack.
			if err := l.ix.PutNotes(map[string][]byte{filePrefix + f.path: note}); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// needsScan tells, with mu held, whether other contents lie there than were read.
func (l *Library) needsScan(f *fileState) bool {
	if f.info == nil || f.read != f.pin && f.info.Pin != f.pin {
		return true
	}
	if f.info.Pin == f.pin {
		f.damage = nil
	}
	return f.info.Raw != "" && f.info.Raw != l.rawRule(f.path)
}

// scanOne reads one file and returns its note, if it is to be kept.
func (l *Library) scanOne(ctx context.Context, f *fileState) []byte {
	l.mu.Lock()
	pin, old, rule := f.pin, f.info, l.rawRule(f.path)
	l.now = f.path
	l.mu.Unlock()
	info, err := l.scanFile(ctx, f, pin, rule)
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
	case old != nil && old.Fault == nil && l.shortened(f.path, old, info):
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
func (l *Library) shortened(name string, old, now *fileInfo) bool {
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
	return l.beginsAlike(name, old, h)
}

// beginsAlike compares the records that are left with the index. A file that
// was written anew and cut off differs in them.
func (l *Library) beginsAlike(name string, old *fileInfo, h *repo.Handle) bool {
	nodes := l.nodesOf(name)
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
func (l *Library) nodesOf(name string) map[int][]*index.Node {
	nodes := map[int][]*index.Node{}
	l.mu.Lock()
	var img *imageState
	if f := l.files[name]; f != nil {
		img = f.image
	}
	l.mu.Unlock()
	if img == nil {
		return nodes
	}
	for _, n := range l.plan(img).nodes {
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
