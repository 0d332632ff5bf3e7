package restore

import (
	"log/slog"
	"syscall"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// firstSize is what a raw image is made with, bytes, as long as its length isn't
// known. It doubles from there, and is cut at the end.
const firstSize = 1 << 30

// A raw receives an image's bytes, in any order.
type raw struct {
	*Job
	length    int64   // of the file
	buf       *buffer // the piece being filled, nil for none
	at, fill  int64   // buf holds [at, at+fill)
	dirty     bool    // something was not committed
	committed bool    // the image has its name
}

// receiveRaw takes an image's bytes, beginning with a call, until the file is
// closed.
func (j *Job) receiveRaw(c *call) error {
	j.record.update(func(r *Report) { r.Kind = KindRaw })
	r := &raw{Job: j}
	defer r.dropBuffer()
	if err := r.create(c); err != nil {
		return err
	}
	if len(j.head) > 0 {
		if err := r.append(0, int64(len(j.head)), func(p []byte) int { return copy(p, j.head) }); err != nil {
			return err
		}
	}
	for ; c != nil; c = j.next() {
		if err := r.handle(c); err != nil {
			if !r.committed {
				return err
			}
			return r.failLate(err)
		}
		j.answer(nil)
	}
	return r.release()
}

// create makes the image, if there is none of that name.
func (r *raw) create(c *call) error {
	exists, err := r.m.target.Exists(r.ctx, r.name)
	if err != nil {
		return err
	}
	if exists {
		return refuse(r.name, syscall.EEXIST, "Choose another name, or remove that image first", "the image exists")
	}
	r.length = max(r.declared, int64(len(r.head)))
	size := max(r.declared, firstSize)
	switch c.kind {
	case callFlush:
		size = r.length
	case callCopy:
		size = max(r.length, c.off+c.n)
	}
	return r.newImage(size, target.Layout{Features: r.m.features})
}

// newImage makes the job's image under its temporary name.
func (j *Job) newImage(size int64, layout target.Layout) error {
	if err := j.record.guard(j.m.journal, func(*target.Job) {}); err != nil {
		return err
	}
	j.created = true
	img, err := j.m.target.Create(j.ctx, j.record.target(), size, layout)
	if err != nil {
		return err
	}
	j.record.update(func(r *Report) { r.New = true })
	j.useImage(img)
	j.sink.blank = true
	return nil
}

func (j *Job) useImage(img target.Image) {
	j.img = img
	j.sink = newSink(j.ctx, img, j.m.buffers, &j.record.tally)
}

func (r *raw) handle(c *call) error {
	switch c.kind {
	case callWrite:
		return r.write(c)
	case callCopy:
		if err := r.flushBuffer(); err != nil {
			return err
		}
		if err := r.change(c.off + c.n); err != nil {
			return err
		}
		before := c.taken.Load() // what a look at the first bytes took
		err := r.sink.copyRange(c.ctx, c.src, c.from, c.off, c.n, &c.taken)
		r.extend(c.off + c.taken.Load() - before)
		if err != nil {
			return err
		}
		return r.sink.drain() // src is the caller's again
	case callTruncate:
		return r.truncate(c.off)
	case callSync:
		if err := r.settle(); err != nil {
			return err
		}
		return r.img.Flush(r.ctx)
	case callFlush:
		if c.killed {
			r.dirty = r.dirty || !r.committed
			return nil
		}
		return r.commit()
	}
	return nil
}

// change prepares the image for a change that reaches up to end.
func (r *raw) change(end int64) error {
	if end > rbddiff.MaxSize {
		return refuse(r.name, syscall.EFBIG, "", "no image can have %d bytes", end)
	}
	if r.committed && !r.dirty {
		r.record.reopen()
	}
	r.dirty = true
	if end <= r.img.Size() {
		return nil
	}
	size := max(end, min(2*r.img.Size(), rbddiff.MaxSize))
	if r.committed {
		size = end // others may look at it
	}
	return r.sink.resize(size)
}

// extend sets the length of the file to at least end.
func (r *raw) extend(end int64) {
	r.length = max(r.length, end)
	r.record.update(func(report *Report) { report.Size = r.length })
}

// write takes the payload of a call.
func (r *raw) write(c *call) error {
	if err := r.change(c.off + c.left()); err != nil {
		return err
	}
	for off := c.off; c.left() > 0; {
		n := c.left()
		if err := r.append(off, n, c.take); err != nil {
			return err
		}
		off = r.at + r.fill
	}
	return nil
}

// append puts up to n bytes that take gives into the buffer, for off; what it
// holds is written first where off doesn't follow, and afterwards once it is full.
func (r *raw) append(off, n int64, take func([]byte) int) error {
	if r.buf != nil && off != r.at+r.fill {
		if err := r.flushBuffer(); err != nil {
			return err
		}
	}
	if r.buf == nil {
		b, err := r.sink.buffer(r.sink.ctx)
		if err != nil {
			return err
		}
		r.buf, r.at, r.fill = b, off, 0
	}
	room := r.sink.piece(r.at+r.fill, n)
	got := int64(take(r.buf.room[r.fill : r.fill+room]))
	r.fill += got
	r.extend(r.at + r.fill)
	if (r.at+r.fill)%r.sink.hints.Chunk == 0 {
		end := r.at + r.fill
		err := r.flushBuffer()
		r.at, r.fill = end, 0
		return err
	}
	return nil
}

// flushBuffer hands the buffer to the sink.
func (r *raw) flushBuffer() error {
	if r.buf == nil {
		return nil
	}
	b, n := r.buf, r.fill
	r.buf = nil
	if n == 0 {
		b.put()
		return nil
	}
	return r.sink.write(r.at, b, n, nil)
}

func (r *raw) dropBuffer() {
	if r.buf != nil {
		r.buf.put()
		r.buf = nil
	}
}

// settle waits until the image has all that was written.
func (r *raw) settle() error {
	if err := r.flushBuffer(); err != nil {
		return err
	}
	return r.sink.drain()
}

func (r *raw) truncate(size int64) error {
	if size == r.length {
		return nil
	}
	if err := r.flushBuffer(); err != nil {
		return err
	}
	if err := r.change(size); err != nil {
		return err
	}
	if size < r.length {
		// What is cut must not come back when the image grows.
		if err := r.sink.resize(size); err != nil {
			return err
		}
	}
	r.length = size
	r.record.update(func(report *Report) { report.Size = size })
	return nil
}

// commit makes everything up to here durable, under the image's name.
func (r *raw) commit() error {
	if r.committed && !r.dirty {
		return nil
	}
	r.record.update(func(report *Report) { report.State = StateFinishing })
	if err := r.settle(); err != nil {
		return err
	}
	if err := r.sink.resize(r.length); err != nil {
		return err
	}
	if err := r.img.Flush(r.ctx); err != nil {
		return err
	}
	if !r.committed {
		if err := r.record.complete(r.m.journal); err != nil {
			return err
		}
	}
	if err := r.img.Commit(r.ctx); err != nil {
		if r.committed {
			return err
		}
		return r.uncommitted(err)
	}
	r.committed, r.dirty = true, false
	r.record.restored()
	r.logDone()
	return nil
}

// release ends the restore when the file is closed.
func (r *raw) release() error {
	if !r.committed {
		return r.stopped()
	}
	if r.dirty {
		return r.failLate(r.stopped())
	}
	r.sink.abandon()
	img := r.img
	r.img, r.sink = nil, nil
	return img.Close()
}

// failLate is for an error after a commit: the image has its name, and what came
// after the commit can't be undone.
func (r *raw) failLate(err error) error {
	err = refuse(r.name, target.ErrnoOf(err), "Remove the image and write it again",
		"after an earlier close had restored the image, more was written, and not all of it: %w", err)
	r.leave()
	r.log.Warn("restored, but not what was written after an earlier close",
		slog.String("job", r.record.id()), slog.String("image", r.name.String()), slog.Any("error", err))
	r.record.fail(err, true)
	r.answer(err)
	return err
}
