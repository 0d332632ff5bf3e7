package chain

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rbdbackupfs/index"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

// A buildError says which file keeps a node from being built, and why.
type buildError struct {
	file  *planFile
	fault *fault
}

func (e *buildError) Error() string { return e.file.path + ": " + e.fault.reason }

// build returns the index's node for a planned one, and makes it if need be. Its
// partitions aren't known yet.
// Errors: a *buildError when the backup file is at fault, else the index's or ctx's.
func (l *Library) build(ctx context.Context, n *planNode, parent builtNode) (builtNode, error) {
	if node, ok := l.ix.Node(n.id); ok {
		return builtNode{Node: node}, nil
	}
	h, err := l.open(ctx, n.step.file.path, n.step.file.pin, n.step.file.info.unpacked)
	if err != nil {
		return builtNode{}, &buildError{n.step.file, readFault(err)}
	}
	defer h.Release()
	size := n.step.info.Size
	if !n.step.info.HasSize && parent.Node != nil {
		size = parent.Size
	}
	b, err := l.ix.Begin(n.id, parent.Node, size)
	if err != nil {
		return builtNode{}, err
	}
	watched := &watchedBuild{Build: b, areas: parent.areas}
	if n.step.file.kind == kindRaw {
		err = feedRaw(ctx, b, h)
	} else {
		err = feedDiff(ctx, watched, h, n.step)
	}
	if err == nil {
		if err = h.Check(); errors.Is(err, repo.ErrGone) {
			err = nil
		}
	}
	if err == nil {
		node, err := b.Commit()
		return builtNode{Node: node, kept: parent.areas != nil && size == parent.Size && !watched.touched}, err
	}
	b.Abort()
	var broken *index.Error
	if ctx.Err() != nil || errors.As(err, &broken) {
		return builtNode{}, err
	}
	return builtNode{}, &buildError{n.step.file, readFault(err)}
}

// readFault is the fault that an error of reading a file stands for.
func readFault(err error) *fault {
	var format *rbddiff.Error
	if errors.As(err, &format) {
		if f := formatFault(format); f != nil {
			return f
		}
	}
	f := &fault{kind: KindUnreadable, reason: err.Error(), cure: "Check the disk or the network share that holds the file", offset: -1}
	var e *repo.Error
	if errors.As(err, &e) {
		f.reason = e.Error()
		if e.Hint != "" {
			f.cure = e.Hint
		}
	}
	return f
}

// feedRaw adds the parts of a raw export that aren't holes in its file.
func feedRaw(ctx context.Context, b *index.Build, h *content) error {
	for at := int64(0); at < h.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, err := h.NextData(at)
		if err != nil {
			return err
		}
		if from >= h.Size() {
			return nil
		}
		if at, err = h.NextHole(from); err != nil {
			return err
		}
		if err := b.Add(index.Extent{Off: from, Len: at - from, Data: true, Pos: from}); err != nil {
			return err
		}
	}
	return nil
}

// feedDiff adds the extents of one diff.
func feedDiff(ctx context.Context, b *watchedBuild, h *content, s *step) error {
	format := rbddiff.DiffV1
	if s.file.kind == kindContainer {
		format = rbddiff.Container
	}
	r, err := rbddiff.NewDiffReader(io.NewSectionReader(h, 0, h.Size()), format, s.info.Pos)
	for n := 0; err == nil; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var rec rbddiff.Record
		if rec, err = r.Next(); err != nil {
			break
		}
		if rec.Kind != rbddiff.Data && rec.Kind != rbddiff.Zero {
			continue
		}
		e := index.Extent{Off: rec.Offset, Len: rec.Length, Data: rec.Kind == rbddiff.Data, Pos: rec.DataPos}
		if err = b.Add(e); errors.Is(err, index.ErrPastEnd) {
			return &rbddiff.Error{
				Pos: rec.Pos, Err: rbddiff.ErrCorrupt,
				Reason: fmt.Sprintf("%s reaches past the end of the image", rec),
				Hint:   "The diff states no size, and the snapshot it starts from is smaller: it belongs to another image, or that one is wrong",
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
