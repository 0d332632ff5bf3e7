package chain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"

	"rbdbackupfs/index"
)

const samePrefix = "same/"

// verdict returns what an earlier comparison found.
func (l *Library) verdict(c comparison) verdict {
	if c.a.id == c.b.id {
		return same // two names of one file
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verdicts[c.key()]
}

// compareNodes finds out whether two nodes hold the same bytes, and keeps the
// answer. Segments that both take from one place aren't read.
func (l *Library) compareNodes(ctx context.Context, c comparison) error {
	v := same
	a, err := l.buildPath(ctx, c.a)
	if err != nil {
		return err
	}
	b, err := l.buildPath(ctx, c.b)
	if err != nil {
		return err
	}
	equal, err := l.equal(ctx, a, b)
	if err != nil {
		return err
	}
	if !equal {
		v = different
	}
	l.mu.Lock()
	l.verdicts[c.key()] = v
	l.mu.Unlock()
	l.log.Info("compared two files that claim one snapshot",
		slog.String("a", c.a.step.file.path), slog.String("b", c.b.step.file.path), slog.Bool("equal", equal))
	return l.ix.PutNotes(map[string][]byte{samePrefix + c.key(): {byte(v)}})
}

// buildPath builds a node and everything it stands on.
func (l *Library) buildPath(ctx context.Context, n *planNode) (*index.Node, error) {
	var parent *index.Node
	if n.parent != nil {
		var err error
		if parent, err = l.buildPath(ctx, n.parent); err != nil {
			return nil, err
		}
	}
	node, err := l.build(ctx, n, builtNode{Node: parent})
	if err != nil {
		return nil, err
	}
	l.setSource(node.Number, n.step.file.source())
	return node.Node, nil
}

const compareStep = 1 << 20

func (l *Library) equal(ctx context.Context, a, b *index.Node) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	va, vb := l.view(a), l.view(b)
	bufA, bufB := make([]byte, compareStep), make([]byte, compareStep)
	for at := int64(0); at < a.Size; {
		next, err := firstData(ctx, at, va, vb)
		if err != nil || next < 0 {
			return err == nil, err
		}
		at = next - next%compareStep
		end := min(at+compareStep, a.Size)
		sa, err := va.m.Append(nil, at, end)
		if err != nil {
			return false, err
		}
		sb, err := vb.m.Append(nil, at, end)
		if err != nil {
			return false, err
		}
		if !equalSegments(sa, sb) {
			pa, pb := bufA[:end-at], bufB[:end-at]
			if err := errors.Join(va.fill(ctx, pa, at), vb.fill(ctx, pb, at)); err != nil {
				return false, err
			}
			if !bytes.Equal(pa, pb) {
				return false, nil
			}
		}
		at = end
	}
	return true, nil
}

func equalSegments(a, b []index.Segment) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// firstData is where the first data of any view begins, -1 when there is none.
func firstData(ctx context.Context, off int64, views ...*View) (int64, error) {
	first := int64(-1)
	for _, v := range views {
		at, err := v.m.NextData(off)
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if first < 0 || at < first {
			first = at
		}
	}
	return first, ctx.Err()
}
