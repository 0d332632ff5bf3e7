package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/parttable"
)

// What is known of the partitions of a node is in its note, so that an index that is
// opened again reads no backup file for them:
//
//	note = version kind [table]
//
// No note, or one of another version, says nothing: the node is older than this, or its
// sectors couldn't be read. Most nodes have the partitions of their parent, which takes
// two bytes and no memory.
const (
	partsVersion = 1 // changes with what parttable finds, or how it is written

	partsNone  = 'n' // there are none
	partsSame  = '=' // those of the parent
	partsTable = 't' // a JSON array follows
)

// A builtNode is a planned node in the index, and what is known of its partitions.
type builtNode struct {
	*index.Node
	partitions []parttable.Partition
	// areas are what had to be read to find them, nil where that wasn't done now.
	areas []area
	// kept: it was built now, and by a step that leaves the areas of its parent alone.
	kept bool
}

// An area is the range [from, to) of an image, bytes.
type area struct{ from, to int64 }

// findPartitions finds the partitions of a node. What can't be read or understood has
// none: that is no reason to withhold the snapshot.
func (l *Library) findPartitions(ctx context.Context, n *builtNode, parent builtNode) error {
	var ok bool
	if n.partitions, ok = decodeParts(l.ix.NodeNote(n.Node), parent.partitions); ok {
		return nil
	}
	if n.kept {
		n.partitions, n.areas = parent.partitions, parent.areas
	} else {
		var err error
		n.partitions, n.areas, err = l.readPartitions(ctx, n.Node)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, parttable.ErrDamaged):
			l.log.Debug("partition table is damaged", slog.String("node", n.ID.String()), slog.Any("error", err))
		case err != nil:
			if p := (*panicError)(nil); errors.As(err, &p) {
				l.log.Error("the parser of partition tables panicked", slog.Any("error", err), slog.String("stack", p.stack))
			}
			// Not noted, so that it is tried again. Who reads the snapshot is told.
			l.log.Debug("partitions can't be read", slog.String("node", n.ID.String()), slog.Any("error", err))
			n.partitions, n.areas = nil, nil
			return nil
		case slices.Equal(n.partitions, parent.partitions):
			n.partitions = parent.partitions // of which there is one list then
		}
	}
	note, err := encodeParts(n.partitions, parent.partitions)
	if err != nil {
		return err
	}
	return l.ix.SetNodeNote(n.Node, note)
}

func encodeParts(list, parent []parttable.Partition) (string, error) {
	switch {
	case len(list) == 0:
		return string([]byte{partsVersion, partsNone}), nil
	case slices.Equal(list, parent):
		return string([]byte{partsVersion, partsSame}), nil
	}
	table, err := json.Marshal(list)
	return string(append([]byte{partsVersion, partsTable}, table...)), err
}

func decodeParts(note string, parent []parttable.Partition) (list []parttable.Partition, ok bool) {
	if len(note) < 2 || note[0] != partsVersion {
		return nil, false
	}
	switch note[1] {
	case partsNone:
		return nil, true
	case partsSame:
		return parent, len(parent) > 0
	case partsTable:
		err := json.Unmarshal([]byte(note[2:]), &list)
		return list, err == nil
	}
	return nil, false
}

// readPartitions looks for the partition table in the bytes of a node, and says which
// of them it took.
func (l *Library) readPartitions(ctx context.Context, node *index.Node) ([]parttable.Partition, []area, error) {
	r := &viewReader{ctx: ctx, view: l.view(node)}
	var table parttable.Table
	err := noPanic(func() (err error) {
		table, err = parttable.Read(r, r.view.Size())
		return err
	})
	return table.Partitions, r.areas, err
}

// A panicError is a panic where bytes are parsed that are anybody's.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// noPanic makes a panic an error of the one call.
func noPanic(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, string(debug.Stack())}
		}
	}()
	return f()
}

// A viewReader reads a view during one call, and remembers what. The counters of reads
// are for those of users.
type viewReader struct {
	ctx   context.Context //nolint:containedctx // io.ReaderAt has none
	view  *View
	areas []area
}

// ReadAt is that of io.ReaderAt.
func (r *viewReader) ReadAt(p []byte, off int64) (int, error) {
	size := r.view.Size()
	if off < 0 || off > size || int64(len(p)) > size-off {
		return 0, io.EOF
	}
	end := off + int64(len(p))
	if last := len(r.areas) - 1; last >= 0 && r.areas[last].to == off {
		r.areas[last].to = end
	} else {
		r.areas = append(r.areas, area{off, end})
	}
	if err := r.view.fill(r.ctx, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A watchedBuild tells whether a step touches some areas: most diffs are small, and
// touch nothing that tells of partitions.
type watchedBuild struct {
	*index.Build
	areas   []area
	touched bool
}

// Add is that of index.Build.
func (w *watchedBuild) Add(e index.Extent) error {
	for i := 0; i < len(w.areas) && !w.touched; i++ {
		w.touched = e.Off < w.areas[i].to && w.areas[i].from-e.Off < e.Len
	}
	return w.Build.Add(e)
}
