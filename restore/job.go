package restore

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// A Job is one restore by writing: a file in import/ from its opening to its last
// close. One goroutine does all of it; the calls from outside are handed to it.
//
//	head ──> raw ─────────────────────> released
//	  └────> stream ──> whole ──> done ──> released
//	                (each) ──> failed ──> released
//
// The first bytes say what is being written. A raw image has no end, so each
// flush commits what there is; a stream is committed by the flush after its own
// end.
type Job struct {
	m    *Manager
	name target.Name
	feed *feed
	ctx  context.Context // ends with the manager
	log  *slog.Logger
	done chan struct{} // closed when all is over

	record *record // what the journal and the reports have of it

	before *Job // of the same image, not yet at its end; nil for none

	// Of the restore's goroutine.
	head     []byte // the first bytes, until it is known what they are
	declared int64  // the length that a truncate has set
	current  *call
	img      target.Image
	sink     *sink
	created  bool // the target was asked to make the image
	fresh    bool // it is this job's alone, and goes as a whole
	released bool
}

// WriteAt takes bytes of the file at an offset. A raw image takes any order, a
// stream goes forward: what it skips is zeros. When ctx ends it returns how many
// bytes were taken, with an error only if that is none. It doesn't keep p.
//
// The errno of its errors is that of `rbd import` and `rbd import-diff`: EEXIST,
// EINVAL, ENOENT; EBADMSG for a broken stream; ESPIPE for one that goes back.
func (j *Job) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := j.feed.write(ctx, p, off)
	j.record.received(off + int64(n))
	return n, err
}

// Truncate sets the length of the file. Before the first byte, 0 does nothing.
func (j *Job) Truncate(ctx context.Context, size int64) error {
	return j.feed.do(ctx, &call{kind: callTruncate, off: size})
}

// CopyFrom takes [from, from+n) of src for the bytes at off. It returns early when
// ctx ends, with what was taken until then.
func (j *Job) CopyFrom(ctx context.Context, src Source, from, off, n int64) (int64, error) {
	taken, err := j.feed.copy(ctx, src, from, off, n)
	j.record.received(off + taken)
	return taken, err
}

// Sync returns when what was written is durable.
func (j *Job) Sync(ctx context.Context) error { return j.feed.do(ctx, &call{kind: callSync}) }

// Flush is what close(2) does: it commits a raw image and a stream that is whole,
// and does nothing before the first byte. A stream that isn't whole gives
// EBADMSG, and may go on. killed says that the process that closes was ended by a
// signal: nothing is committed then.
func (j *Job) Flush(ctx context.Context, killed bool) error {
	return j.feed.do(ctx, &call{kind: callFlush, killed: killed})
}

// Release ends the job, once. What isn't committed is undone in the background.
func (j *Job) Release() {
	go func() {
		// Whether it was taken or the job had ended is the same here.
		_ = j.feed.do(context.Background(), &call{kind: callRelease})
	}()
}

// Length is the length of the file, and how much was written to it.
func (j *Job) Length() (size, written int64) { return j.record.length() }

// Done is closed when nothing of the job is left to do.
func (j *Job) Done() <-chan struct{} { return j.done }

// run is the restore's goroutine.
func (j *Job) run() {
	defer close(j.done)
	err := j.ready()
	if err == nil {
		err = j.receive()
	}
	if err != nil && !j.record.ended() {
		j.fail(err)
	}
	for !j.released {
		c := j.next()
		if c == nil {
			break
		}
		j.answer(err)
	}
	j.feed.end(errClosedFile)
	j.m.ended(j)
}

// errClosedFile is for calls that come after the last close, of which there are
// none.
var errClosedFile = &target.Error{Op: "restore", Errno: syscall.EBADF, Err: errors.New("the file is closed")}

// ready waits until nothing of an earlier restore of the image is left to do.
func (j *Job) ready() error {
	if j.before != nil {
		wait, cancel := j.ctx, context.CancelFunc(func() {})
		if j.before.record.state() == StateDone { // still open, as a raw image may be
			wait, cancel = context.WithTimeout(j.ctx, closePatience)
		}
		defer cancel()
		select {
		case <-j.before.done:
			j.before = nil
		case <-wait.Done():
			if j.ctx.Err() != nil {
				return errClosed
			}
			return busy(j.name)
		}
	}
	return j.m.recoverLeft(j.ctx, j.name)
}

// next waits for the next call, and answers a release itself: nil then, and when
// the manager is closed.
func (j *Job) next() *call {
	if j.released {
		return nil
	}
	select {
	case c := <-j.feed.calls:
		if c.kind == callRelease {
			j.released = true
			c.answer(nil)
			return nil
		}
		j.current = c
		return c
	case <-j.ctx.Done():
		return nil
	}
}

// stopped is why next gave nil.
func (j *Job) stopped() error {
	if j.released {
		return errReleased
	}
	return errClosed
}

// answer ends the current call.
func (j *Job) answer(err error) {
	if j.current != nil {
		j.current.answer(err)
		j.current = nil
	}
}

// receive takes calls until the file is closed or something fails.
func (j *Job) receive() error {
	for {
		c := j.next()
		if c == nil {
			if len(j.head) > 0 || !j.released {
				return j.stopped()
			}
			return nil // opened and closed: an empty stream makes nothing
		}
		known, err := j.begin(c)
		switch {
		case err != nil:
			return err
		case !known:
			j.answer(nil)
		default:
			return j.take(c)
		}
	}
}

// begin takes a call while it isn't known what is being written, and reports
// whether it is now. The call is answered by the caller then.
func (j *Job) begin(c *call) (known bool, err error) {
	switch c.kind {
	case callWrite:
		if c.off != int64(len(j.head)) {
			return true, nil
		}
		var room [rbddiff.DetectLen]byte
		n := c.take(room[:rbddiff.DetectLen-len(j.head)])
		j.head = append(j.head, room[:n]...)
		c.off += int64(n)
		return len(j.head) == rbddiff.DetectLen, nil
	case callCopy:
		if c.off == 0 && len(j.head) == 0 {
			return true, j.peek(c)
		}
		return true, nil
	case callTruncate:
		if len(j.head) == 0 {
			j.declared = c.off
		}
		return len(j.head) > 0 && c.off != int64(len(j.head)), nil
	case callFlush:
		if c.killed || len(j.head) == 0 && j.declared == 0 {
			return false, nil
		}
		if rbddiff.Detect(j.head) == rbddiff.RBDPrefix {
			j.answer(refuse(j.name, syscall.EBADMSG, "Write the whole export", "the stream ends inside its first %d bytes", rbddiff.DetectLen))
			return false, nil
		}
		return true, nil
	}
	return false, nil
}

// peek looks at the first bytes of what is to be copied, which a copy takes later.
func (j *Job) peek(c *call) error {
	var room [rbddiff.DetectLen]byte
	n := min(int64(len(room)), c.n)
	if err := readFull(j.ctx, c.src, room[:n], c.from); err != nil {
		return err
	}
	j.head = append(j.head, room[:n]...)
	c.from, c.off, c.n = c.from+n, c.off+n, c.n-n
	c.taken.Add(n)
	return nil
}

// take receives what the first bytes say, beginning with a call.
func (j *Job) take(c *call) error {
	format := rbddiff.Detect(j.head)
	switch format {
	case rbddiff.DiffV1, rbddiff.Container:
		return j.receiveStream(c, format)
	case rbddiff.Unknown:
		return j.receiveRaw(c)
	}
	return j.refuseFormat(format)
}

// refuseFormat says what would work instead.
func (j *Job) refuseFormat(format rbddiff.Format) error {
	hint := format.Hint()
	if command := format.Unpack(); command != "" {
		to := " > " + j.m.path(j.name)
		hint = "Unpack it on the way: " + command + " FILE" + to + ", or, if that is an archive: tar -xOf FILE" + to
	} else if format == rbddiff.Qcow2 {
		hint = "Convert it first: qemu-img convert -O raw FILE FILE.raw; then: cp FILE.raw " + j.m.path(j.name)
	}
	return refuse(j.name, syscall.EINVAL, hint, "what is written is %s, not an export of rbd", format)
}

// fail ends the restore with err: it undoes what there is to undo, and only then
// has the caller learn of it, who may try again at once.
func (j *Job) fail(err error) {
	j.record.failing(err)
	quiet := errors.Is(err, errReleased)
	if undo := j.undo(target.IsSilent(err)); undo != nil {
		err = joinErrors(err, undo)
		j.log.Error("restore failed, and can't be undone now; that is tried again and again, and by rbdbackupfs jobs --recover",
			slog.String("job", j.record.id()), slog.String("image", j.name.String()), slog.Any("error", err))
		j.record.fail(err, false)
	} else {
		level := slog.LevelWarn
		if quiet {
			level = slog.LevelInfo
		}
		j.log.Log(j.ctx, level, "restore failed; nothing of it is left",
			slog.String("job", j.record.id()), slog.String("image", j.name.String()), slog.Any("error", err))
		j.record.fail(err, true)
	}
	j.answer(err)
}

// undo takes back what was done to the image. With a target that doesn't answer
// that is left for later: the writer would wait for it in vain.
func (j *Job) undo(silent bool) error {
	changed := j.img != nil || j.created
	if silent && changed {
		j.leave()
		return errLeft
	}
	if j.sink != nil {
		j.sink.abandon()
		j.sink = nil
	}
	if !changed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), undoPatience)
	defer cancel()
	if j.img == nil {
		// Who gave up waiting for a new image doesn't know whether it came.
		_, err := j.m.target.Recover(ctx, j.record.target())
		return err
	}
	err := j.img.Abort(ctx)
	j.img = nil
	return err
}

// leave lets go of the image without waiting for what is under way: that may take
// as long as the target doesn't answer. Nobody undoes anything of it before that.
func (j *Job) leave() {
	sink, img := j.sink, j.img
	j.sink, j.img = nil, nil
	end := j.m.hold(j.name)
	go func() {
		defer end()
		if sink != nil {
			sink.abandon()
		}
		if img != nil {
			_ = img.Close() // its end is all that matters
		}
	}()
}
