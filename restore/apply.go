package restore

import (
	"io"
	"syscall"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// An applier applies the records of an export to the job's image.
type applier struct {
	*Job
	container bool
	header    rbddiff.Header
	step      rbddiff.Step
	started   bool // the step's first extent, or its end, has come
}

// one applies one record; r gives the payload of a data record.
func (a *applier) one(rec *rbddiff.Record, r io.Reader) error {
	switch rec.Kind {
	case rbddiff.HeaderEnd:
		return a.checkAbsent()
	case rbddiff.DiffStart:
		a.step, a.started = rbddiff.Step{}, false
	case rbddiff.From:
		if a.started {
			return refuse(a.name, syscall.EBADMSG, "Make the export again: rbd writes it before all data",
				"the start snapshot comes after data (at byte %d)", rec.Pos)
		}
		a.step.From, a.step.HasFrom = rec.Name, true
	case rbddiff.To:
		a.step.To, a.step.HasTo = rec.Name, true
	case rbddiff.Protect:
		a.step.Protected = rec.Protected
	case rbddiff.Size:
		a.step.Size, a.step.HasSize = rec.Size, true
	case rbddiff.Data, rbddiff.Zero:
		return a.extent(rec, r)
	case rbddiff.End:
		return a.end()
	default:
		a.header.Add(rec)
	}
	return nil
}

// checkAbsent is the first that can be said of a container.
func (a *applier) checkAbsent() error {
	exists, err := a.m.target.Exists(a.ctx, a.name)
	if err == nil && exists {
		err = refuse(a.name, syscall.EEXIST, "Choose another name, or remove that image first", "the image exists")
	}
	return err
}

// extent applies a data or zero record.
func (a *applier) extent(rec *rbddiff.Record, r io.Reader) error {
	if err := a.start(); err != nil {
		return err
	}
	if end := rec.Offset + rec.Length; end > a.img.Size() {
		if !a.fresh {
			return refuse(a.name, syscall.EBADMSG, "Make the export again", "the extent %d~%d ends past the image's size %d (at byte %d)",
				rec.Offset, rec.Length, a.img.Size(), rec.Pos)
		}
		// Its size will come: a full export without one is broken.
		if err := a.sink.resize(end); err != nil {
			return err
		}
	}
	if rec.Kind == rbddiff.Zero {
		return a.sink.zero(rec.Offset, rec.Length)
	}
	for off, left := rec.Offset, rec.Length; left > 0; {
		n := a.sink.piece(off, left)
		b, err := a.sink.buffer(a.sink.ctx)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, b.room[:n]); err != nil {
			b.put()
			return err
		}
		if err := a.sink.write(off, b, n, nil); err != nil {
			return err
		}
		off, left = off+n, left-n
	}
	return nil
}

// start opens or makes the image, before the first extent of each step, and gives
// it the step's size.
func (a *applier) start() error {
	if a.started {
		return nil
	}
	a.started = true
	a.record.update(func(r *Report) {
		if !a.container || r.From == "" {
			r.From = a.step.From
		}
		r.To = a.step.To
	})
	if a.img == nil {
		if err := a.open(); err != nil {
			return err
		}
	}
	if !a.step.HasSize {
		return nil
	}
	a.record.update(func(r *Report) { r.Size = a.step.Size })
	return a.sink.resize(a.step.Size)
}

// open decides between a new image and one that exists.
func (a *applier) open() error {
	if !a.container && !a.step.HasFrom {
		exists, err := a.m.target.Exists(a.ctx, a.name)
		if err != nil {
			return err
		}
		if exists {
			return a.update()
		}
	} else if !a.container {
		return a.update()
	}
	a.fresh = true
	return a.newImage(a.step.Size, a.layout())
}

func (a *applier) layout() target.Layout {
	return target.Layout{
		Order: a.header.Order, Features: a.m.features,
		FeatureBits: a.header.RawFeatures, HasFeatureBits: a.header.HasFeatures,
		StripeUnit: a.header.StripeUnit, StripeCount: a.header.StripeCount, Meta: a.header.Meta,
	}
}

// end finishes a step: what came of its size late, and its snapshot.
func (a *applier) end() error {
	if err := a.start(); err != nil {
		return err
	}
	if a.step.HasSize {
		if err := a.sink.resize(a.step.Size); err != nil {
			return err
		}
	}
	if !a.step.HasTo {
		return nil
	}
	return a.snapshot(a.step.To, a.step.Protected)
}

// snapshot takes a snapshot of what the image is now.
func (j *Job) snapshot(name string, protect bool) error {
	if err := j.sink.drain(); err != nil {
		return err
	}
	j.record.update(func(r *Report) { r.To = name })
	if j.fresh {
		return j.img.Snapshot(j.ctx, name, protect)
	}
	// A new image goes as a whole. Of another one it has to be noted first that
	// the snapshot is the restore's own, to be removed if the restore fails.
	if !j.record.makes(name) {
		if err := j.checkNoSnapshot(j.img, name); err != nil {
			return err
		}
		if err := j.record.guard(j.m.journal, func(job *target.Job) { job.To = append(job.To, []byte(name)) }); err != nil {
			return err
		}
	}
	return j.img.Snapshot(j.ctx, name, protect)
}

// sync makes durable what was applied so far.
func (a *applier) sync() error {
	if a.img == nil {
		return nil
	}
	if err := a.sink.drain(); err != nil {
		return err
	}
	return a.img.Flush(a.ctx)
}
