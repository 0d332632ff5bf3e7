package restore

import (
	"fmt"
	"io"
	"log/slog"
	"syscall"

	"rbdbackupfs/internal/target"
	"rbdbackupfs/rbddiff"
)

// A stream receives a diff or a container. It is the io.Reader of its own parser:
// a call on the file is answered when the parser asks for what comes after it, so
// an error is told to the write that brought it.
type stream struct {
	*Job
	pos   int64 // of the next byte of the file
	fed   int64 // bytes given to the parser
	gap   int64 // zeros before the current call's bytes
	apply applier
}

// receiveStream takes an export, beginning with a call, until the file is closed.
func (j *Job) receiveStream(c *call, format rbddiff.Format) error {
	kind := KindDiff
	if format == rbddiff.Container {
		kind = KindExport
	}
	j.record.update(func(r *Report) { r.Kind = kind })
	s := &stream{Job: j, pos: int64(len(j.head)), apply: applier{Job: j, container: format == rbddiff.Container}}
	// The call that told the kind may have bytes left, or be one that the parser
	// has to see.
	if err := s.accept(c); err != nil {
		return err
	}
	if err := s.parse(); err != nil {
		return streamError(j.name, err)
	}
	return s.whole()
}

// parse reads the export to its end, and applies it.
func (s *stream) parse() error {
	r, err := rbddiff.NewReader(s)
	if err != nil {
		return err
	}
	for {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = s.apply.one(&rec, r)
		}
		if err != nil {
			return err
		}
	}
	for _, w := range r.Warnings() {
		s.log.Info("odd export", slog.String("image", s.name.String()), slog.String("what", w.String()))
	}
	if extra := s.fed - r.Offset() + s.pending(); extra > 0 {
		return s.trailing()
	}
	return nil
}

func (s *stream) trailing() error {
	return refuse(s.name, syscall.EBADMSG, "Write one export at a time, each to its end",
		"there are bytes after the end of the export, at byte %d", s.fed)
}

// pending is how many bytes of the current call the parser hasn't seen.
func (s *stream) pending() int64 {
	if s.current == nil {
		return 0
	}
	switch s.current.kind {
	case callWrite:
		return s.gap + s.current.left()
	case callCopy:
		return s.gap + s.current.n
	}
	return 0
}

// Read gives the parser the next bytes of the file.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if len(s.head) > 0 {
			n := copy(p, s.head)
			s.head = s.head[n:]
			s.fed += int64(n)
			return n, nil
		}
		n, err := s.fromCall(p)
		if n > 0 || err != nil {
			s.fed += int64(n)
			return n, err
		}
		s.answer(nil)
		c := s.next()
		if c == nil {
			return 0, s.stopped()
		}
		if err := s.accept(c); err != nil {
			return 0, err
		}
	}
}

// fromCall gives what is left of the current call.
func (s *stream) fromCall(p []byte) (int, error) {
	if s.current == nil {
		return 0, nil
	}
	if s.gap > 0 && s.pending() > s.gap {
		n := int(min(s.gap, int64(len(p))))
		clear(p[:n])
		s.gap, s.pos = s.gap-int64(n), s.pos+int64(n)
		return n, nil
	}
	s.gap = 0
	n := 0
	switch c := s.current; c.kind {
	case callWrite:
		n = c.take(p)
	case callCopy:
		n = int(min(int64(len(p)), c.n))
		select {
		case <-c.ctx.Done():
			n = 0 // the rest comes with another call
		default:
		}
		if n == 0 {
			return 0, nil
		}
		if err := readFull(s.ctx, c.src, p[:n], c.from); err != nil {
			return 0, err
		}
		c.from, c.n = c.from+int64(n), c.n-int64(n)
		c.taken.Add(int64(n))
	}
	s.pos += int64(n)
	return n, nil
}

// accept takes a call while the export isn't whole. It answers those that bring
// no bytes.
func (s *stream) accept(c *call) error {
	switch c.kind {
	case callWrite, callCopy:
		if c.off < s.pos {
			return refuse(s.name, syscall.ESPIPE, "Write it in one go, from its beginning to its end",
				"an export has to be written in order; this goes back from byte %d to %d", s.pos, c.off)
		}
		s.gap = c.off - s.pos
	case callTruncate:
		if c.off < s.pos {
			s.answer(refuse(s.name, syscall.EINVAL, "", "an export that is being written can't be cut to %d bytes", c.off))
			return nil
		}
		s.answer(nil)
	case callSync:
		err := s.apply.sync()
		if err != nil {
			return err
		}
		s.answer(nil)
	case callFlush:
		if c.killed {
			s.answer(nil)
			return nil
		}
		s.answer(refuse(s.name, syscall.EBADMSG, "Write the rest of it, or make the export again",
			"the export isn't whole: it has no end after %d bytes", s.pos))
	}
	return nil
}

// whole takes calls after the end of the export, until the file is closed. The
// first flush commits.
func (s *stream) whole() error {
	committed := false
	for {
		s.answer(nil)
		c := s.next()
		if c == nil {
			break
		}
		var err error
		switch c.kind {
		case callWrite, callCopy:
			err = s.trailing()
		case callSync:
			if !committed {
				err = s.apply.sync()
			}
		case callFlush:
			if !committed && !c.killed {
				err = s.commit()
				committed = err == nil
			}
		}
		switch {
		case err != nil && committed:
			s.answer(err) // too late to undo, and nothing of the image's
		case err != nil:
			return err
		}
	}
	if !committed {
		return s.stopped()
	}
	return nil
}

// commit ends a restore of which everything is applied.
func (j *Job) commit() error {
	j.record.update(func(r *Report) { r.State = StateFinishing })
	if err := j.sink.drain(); err != nil {
		return err
	}
	if err := j.img.Flush(j.ctx); err != nil {
		return err
	}
	if err := j.record.complete(j.m.journal); err != nil {
		return err
	}
	if err := j.img.Commit(j.ctx); err != nil {
		return j.uncommitted(err)
	}
	j.sink.abandon()
	img := j.img
	j.img, j.sink = nil, nil
	j.record.restored()
	j.logDone()
	if err := img.Close(); err != nil {
		j.log.Warn("closing a restored image", slog.String("image", j.name.String()), slog.Any("error", err))
	}
	return nil
}

// uncommitted is for a commit that failed: what is undone now must not be ended by
// a later recovery. Only where the target doesn't answer that decides, as the
// commit may have been done.
func (j *Job) uncommitted(err error) error {
	if target.IsSilent(err) {
		return err
	}
	if again := j.record.guard(j.m.journal, func(job *target.Job) { job.Complete = false }); again != nil {
		err = joinErrors(err, again)
	}
	return err
}

func (j *Job) logDone() {
	report := j.record.Report()
	j.log.Info("restored", slog.String("job", report.ID), slog.String("image", report.Image), slog.String("kind", report.Kind),
		slog.String("to", report.To), slog.Int64("size", report.Size), slog.Int64("data", report.Data))
}

// joinErrors keeps the errno of the first.
func joinErrors(first, second error) error { return fmt.Errorf("%w; %w", first, second) }
