package repo

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleAfter is how far apart the two looks are that have to agree: far
	// beyond the granularity of mtimes, and longer than a copying program
	// usually waits between two writes.
	settleAfter = 500 * time.Millisecond
	// settleWithin is how far apart they may be at most.
	settleWithin = time.Second
	// openNotice is how long a file may stay open for writing, unchanged,
	// before that is told.
	openNotice = time.Minute
	// settleBatch is how many files are looked at before other things get
	// their turn, and settleChunk how many of them one worker takes at a time.
	settleBatch = 1024
	settleChunk = 32
)

// A settler brings Unsettled files to a second look in time. Files wait in two
// queues: those that were just looked at, in the order in which their second
// look is due, and those whose look is too old to count. The first queue has
// precedence, so however slow the looks are, no file's two looks drift apart
// because there are many others; and one timer does for all of them.
type settler struct {
	repo *Repo
	tree *tree

	again []due
	first []item
}

type due struct {
	item
	at instant
}

// A task is one file to look at, and what came of it.
type task struct {
	item
	sync bool // take attributes from the server
	want Pin  // what the look before saw
	open bool // if it is still so: see whether it can be opened, and who writes

	look    nameLook
	held    bool
	openErr error
}

// take queues the files that became Unsettled.
func (s *settler) take() {
	for _, it := range s.tree.unsure {
		if e, ok := s.waiting(it); ok {
			s.again = append(s.again, due{it, e.at + settleAfter})
		}
	}
	s.tree.unsure = s.tree.unsure[:0]
}

// waiting returns the entry of an item that still has to settle.
func (s *settler) waiting(it item) (entry, bool) {
	e, ok := it.in.files[it.name]
	return e, ok && !it.in.dropped && (e.state == Unsettled || e.state == Unreadable)
}

// next returns when step has something to do; false when nothing waits.
func (s *settler) next(now instant) (instant, bool) {
	switch {
	case len(s.first) > 0:
		return now, true
	case len(s.again) > 0:
		return s.again[0].at, true
	default:
		s.again, s.first = nil, nil // lets go of what 100,000 files needed
		return 0, false
	}
}

// step looks at one batch of files.
func (s *settler) step() {
	tasks := s.dueTasks(s.repo.now())
	if len(tasks) == 0 {
		tasks = s.firstTasks()
	}
	s.repo.lookAll(tasks)
	for i := range tasks {
		s.takeIn(&tasks[i])
	}
}

func (s *settler) dueTasks(now instant) []task {
	var tasks []task
	for len(tasks) < settleBatch && len(s.again) > 0 && s.again[0].at <= now {
		it := s.again[0].item
		s.again = s.again[1:]
		e, ok := s.waiting(it)
		switch {
		case !ok:
		case now-e.at > settleWithin:
			s.first = append(s.first, it)
		case now-e.at < settleAfter: // looked at meanwhile
			s.again = append(s.again, due{it, e.at + settleAfter})
		default:
			tasks = append(tasks, newTask(it, e, true))
		}
	}
	return tasks
}

func (s *settler) firstTasks() []task {
	n := min(len(s.first), settleBatch/4)
	tasks := make([]task, 0, n)
	for _, it := range s.first[:n] {
		if e, ok := s.waiting(it); ok {
			tasks = append(tasks, newTask(it, e, false))
		}
	}
	s.first = s.first[n:]
	return tasks
}

func newTask(it item, e entry, open bool) task {
	return task{item: it, want: e.pin, open: open, sync: it.in.kind == fsNetwork}
}

// takeIn draws the conclusion from one look.
func (s *settler) takeIn(t *task) {
	e, ok := s.waiting(t.item)
	if !ok {
		return
	}
	switch {
	case errors.Is(t.look.err, unix.ENOENT) || errors.Is(t.openErr, unix.ENOENT):
		s.tree.bury(t.in, t.name)
		s.tree.remove(t.item)
	case t.look.err != nil:
		s.wait(t.item, e, s.repo.now())
	case t.look.folder || t.look.file.reason != reasonNone || t.look.file.pin != e.pin:
		s.changed(t)
	case !t.open || t.look.file.at-e.at > settleWithin:
		s.wait(t.item, e, t.look.file.at)
	case t.held:
		s.heldOpen(t, e)
	case t.openErr != nil:
		s.unreadable(t, e)
	default:
		e.at = t.look.file.at
		s.tree.settle(t.item, e, Settled, reasonNone)
	}
}

// changed is for a file that differs from the look before, which makes this
// look its first one.
func (s *settler) changed(t *task) {
	if t.look.folder {
		s.tree.remove(t.item) // the event or the rescan brings the folder in
		return
	}
	s.tree.note(t.in, t.look.file)
	if e, ok := s.waiting(t.item); ok && e.state == Unsettled {
		s.again = append(s.again, due{t.item, e.at + settleAfter})
	}
}

func (s *settler) heldOpen(t *task, e entry) {
	e.at = t.look.file.at
	why := e.why
	if e.at-e.since >= openNotice {
		why = reasonOpen
	}
	s.tree.settle(t.item, e, Unsettled, why)
	s.again = append(s.again, due{t.item, e.at + settleAfter})
}

func (s *settler) unreadable(t *task, e entry) {
	why := reasonIO
	switch {
	case errors.Is(t.openErr, unix.EACCES) || errors.Is(t.openErr, unix.EPERM):
		why = reasonDenied
	case errors.Is(t.openErr, errRace):
		s.wait(t.item, e, t.look.file.at)
		return
	}
	s.tree.settle(t.item, e, Unreadable, why)
}

// wait makes the look at this time the first of two.
func (s *settler) wait(it item, e entry, at instant) {
	e.at = at
	it.in.files[it.name] = e
	s.again = append(s.again, due{it, at + settleAfter})
}

// errRace: the file was replaced between the look and the open.
var errRace = errors.New("replaced meanwhile")

// lookAll does the tasks, a few at a time.
func (r *Repo) lookAll(tasks []task) {
	if len(tasks) <= settleChunk {
		r.lookChunk(tasks)
		return
	}
	var workers sync.WaitGroup
	chunks := make(chan []task)
	for range r.workers() {
		workers.Go(func() {
			for chunk := range chunks {
				r.lookChunk(chunk)
			}
		})
	}
	for len(tasks) > 0 {
		n := min(settleChunk, len(tasks))
		chunks <- tasks[:n]
		tasks = tasks[n:]
	}
	close(chunks)
	workers.Wait()
}

// lookChunk opens a folder once for tasks of the same folder in a row.
func (r *Repo) lookChunk(tasks []task) {
	for len(tasks) > 0 {
		n := 1
		for n < len(tasks) && tasks[n].in == tasks[0].in {
			n++
		}
		r.lookInFolder(tasks[0].in.path, tasks[:n])
		tasks = tasks[n:]
	}
}

func (r *Repo) lookInFolder(path string, tasks []task) {
	err := r.withFolder(path, func(dirfd int) error {
		for i := range tasks {
			t := &tasks[i]
			t.look = lookAt(dirfd, t.name, t.sync, r.only != nil)
			t.look.file.at = r.now()
			if t.open && t.look.err == nil && t.look.file.pin == t.want {
				r.tryOpen(dirfd, t)
			}
		}
		return nil
	})
	if err != nil {
		for i := range tasks {
			// The folder can't be opened, or is gone: the look at it will tell.
			tasks[i].look = nameLook{file: fileLook{name: tasks[i].name}, err: unix.EAGAIN}
		}
	}
}

// tryOpen sees whether the file can be opened, and whether others write to it.
func (r *Repo) tryOpen(dirfd int, t *task) {
	fd, st, err := openRegular(dirfd, t.name)
	for limitReached(err) && r.cache.makeRoom() {
		fd, st, err = openRegular(dirfd, t.name)
	}
	switch {
	case limitReached(err): // says nothing about the file
		return
	case errors.Is(err, ErrNotRegular) || errors.Is(err, unix.ELOOP):
		t.openErr = errRace
		return
	case err != nil:
		t.openErr = err
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if pinOf(&st) != t.want {
		t.openErr = errRace
		return
	}
	t.held = t.in.kind == fsLease && heldForWriting(fd, &st)
}

func limitReached(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }
