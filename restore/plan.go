package restore

import (
	"context"
	"syscall"

	"rbdbackupfs/internal/target"
)

// A Point is one point in time of an image that is restored.
type Point struct {
	// Source has the bytes, Size of them.
	Source Source
	Size   int64
	// Data is how many of them have to be written, for the progress.
	Data int64
	// Snapshot is the name of the snapshot to take there, empty for none.
	Snapshot string
	// Protect has that protected.
	Protect bool
	// Changes calls visit with the ranges in which Source may differ from the
	// point before this one; data is false where it reads as zeros. Nil: from an
	// empty image.
	Changes func(ctx context.Context, visit func(off, n int64, data bool) error) error
}

// A Restore is a restore of snapshots, as the restore command makes it.
type Restore struct {
	job    *Job
	points []Point
	layout target.Layout
}

// NewRestore prepares the restore of points, oldest first, to a new image. The
// image ends at the last one.
func (m *Manager) NewRestore(name target.Name, points []Point, layout target.Layout) (*Restore, error) {
	if err := name.Check(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j := m.newJob(m.ctx, name)
	j.record.update(func(r *Report) {
		r.Kind = KindSnapshot
		for _, p := range points {
			r.Total += p.Data
		}
	})
	if m.features != nil {
		layout.Features = m.features
	}
	return &Restore{job: j, points: points, layout: layout}, nil
}

// Report is how far it has got.
func (r *Restore) Report() Report { return r.job.record.Report() }

// Run restores, until all is durable and has its name, or ctx ends. After an
// error nothing of it is left, or the journal has what to recover.
func (r *Restore) Run(ctx context.Context) error {
	j := r.job
	j.ctx = ctx
	defer close(j.done)
	err := r.run(ctx)
	if err != nil {
		j.fail(err)
	}
	j.m.ended(j)
	return err
}

func (r *Restore) run(ctx context.Context) error {
	j := r.job
	exists, err := j.m.target.Exists(ctx, j.name)
	if err != nil {
		return err
	}
	if exists {
		return refuse(j.name, syscall.EEXIST, "Choose another name, or remove that first", "it exists already")
	}
	j.fresh = true
	if err := j.newImage(r.points[0].Size, r.layout); err != nil {
		return err
	}
	for i := range r.points {
		if err := j.point(ctx, &r.points[i]); err != nil {
			return err
		}
	}
	return j.commit()
}

// point brings the image from the point before to this one.
func (j *Job) point(ctx context.Context, p *Point) error {
	if err := j.sink.resize(p.Size); err != nil {
		return err
	}
	j.record.update(func(r *Report) { r.Size = p.Size })
	visit := func(off, n int64, data bool) error {
		if !data {
			return j.sink.zero(off, n)
		}
		for n > 0 {
			piece := j.sink.piece(off, n)
			if err := j.sink.copyPiece(j.sink.ctx, p.Source, off, off, piece); err != nil {
				return err
			}
			off, n = off+piece, n-piece
			j.record.update(func(r *Report) { r.Received += piece })
		}
		return ctx.Err()
	}
	if p.Changes != nil {
		if err := p.Changes(ctx, visit); err != nil {
			return err
		}
	} else if err := j.all(ctx, p, visit); err != nil {
		return err
	}
	if p.Snapshot == "" {
		return j.sink.drain()
	}
	return j.snapshot(p.Snapshot, p.Protect)
}

// all visits everything that the first point has; what it hasn't is zeros
// already.
func (j *Job) all(ctx context.Context, p *Point, visit func(off, n int64, data bool) error) error {
	return walk(ctx, p.Source, 0, p.Size, func(off, n int64, data bool) error {
		if !data {
			return nil
		}
		return visit(off, n, true)
	})
}
