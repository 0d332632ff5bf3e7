package restore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/target"
)

const (
	entrySuffix = ".journal"
	// keptEntries is how many restores that have ended a journal remembers.
	keptEntries = 100
	maxLine     = 1 << 20
)

// A Journal is a folder with one file for each restore. The file is locked by the
// process that restores, so one that isn't is of a process that is gone. Each
// state is a line of JSON, appended and synced; the last whole line counts, so
// that a torn one loses nothing.
//
// The zero Journal keeps nothing: for an index in memory.
type Journal struct{ Dir string }

// A line is one state of a restore in the journal.
type line struct {
	Report Report     `json:"report"`
	Job    target.Job `json:"job"`
}

// An entry is a restore's file, locked. A nil entry keeps nothing.
type entry struct {
	f      *os.File
	torn   bool // the last line may have no end
	closed bool
}

// create makes the file of a new restore.
func (j Journal) create(id string) (*entry, error) {
	if j.Dir == "" {
		return &entry{}, nil
	}
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, journalError(j.Dir, err)
	}
	f, err := os.OpenFile(j.file(id), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, journalError(j.Dir, err)
	}
	err = lockFile(f)
	if err == nil {
		err = syncFolder(j.Dir)
	}
	if err != nil {
		return nil, errors.Join(journalError(j.Dir, err), f.Close())
	}
	return &entry{f: f}, nil
}

func (j Journal) file(id string) string { return filepath.Join(j.Dir, id+entrySuffix) }

func journalError(dir string, err error) error {
	errno := syscall.EIO
	if errors.Is(err, syscall.ENOSPC) {
		errno = syscall.ENOSPC
	}
	return &target.Error{
		Op: "write the journal in", Name: dir, Errno: errno, Err: fmt.Errorf("%w: %w", errJournal, err),
		Hint: "Make room there, or mount with another --index DIR",
	}
}

// put appends a state and makes it durable.
func (e *entry) put(report Report, job target.Job) error {
	if e.f == nil {
		return nil
	}
	text, err := json.Marshal(line{report, job})
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if e.torn {
		text = append([]byte{'\n'}, text...)
	}
	if _, err := e.f.Write(text); err != nil {
		return journalError(filepath.Dir(e.f.Name()), err)
	}
	if err := e.f.Sync(); err != nil {
		return journalError(filepath.Dir(e.f.Name()), err)
	}
	return nil
}

// close unlocks the file.
func (e *entry) close() error {
	if e.f == nil || e.closed {
		return nil
	}
	e.closed = true
	return e.f.Close()
}

// A past is a restore of the journal.
type past struct {
	line
	running bool // its process lives
}

// list reads all entries, oldest first, and forgets the oldest that have ended.
// What can't be read is reported as an error beside the others.
func (j Journal) list() (all []past, err error) {
	if j.Dir == "" {
		return nil, nil
	}
	names, globErr := filepath.Glob(filepath.Join(j.Dir, "*"+entrySuffix))
	if globErr != nil {
		return nil, globErr
	}
	for _, name := range names {
		p, readErr := readEntry(name)
		switch {
		case errors.Is(readErr, os.ErrNotExist):
		case readErr != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", name, readErr))
		default:
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b past) int { return a.Report.Started.Compare(b.Report.Started) })
	ended := 0
	for _, p := range all {
		if p.over() {
			ended++
		}
	}
	all = slices.DeleteFunc(all, func(p past) bool {
		if ended <= keptEntries || !p.over() {
			return false
		}
		ended--
		return os.Remove(j.file(p.Job.ID)) == nil
	})
	return all, err
}

// over tells that there is nothing to recover.
func (p past) over() bool {
	return !p.running && (p.Report.State == StateDone || p.Report.State == StateFailed)
}

// interrupted tells that the restore has to be recovered.
func (p past) interrupted() bool { return !p.running && !p.over() }

func readEntry(name string) (past, error) {
	f, err := os.Open(name)
	if err != nil {
		return past{}, err
	}
	defer f.Close()
	p := past{running: lockedFile(f)}
	id := strings.TrimSuffix(filepath.Base(name), entrySuffix)
	p.line, err = readLines(f, id)
	return p, err
}

// readLines returns the last whole line. A file without one is of a process that
// was killed before its target did anything.
func readLines(f *os.File, id string) (last line, err error) {
	last = line{Report: Report{ID: id, State: StateFailed}, Job: target.Job{ID: id}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var next line
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &next) == nil && next.Job.ID == id {
			last = next
		}
	}
	return last, lines.Err()
}

// reopen locks the file of a restore whose process is gone; nil when somebody
// else was faster.
func (j Journal) reopen(id string) (*entry, error) {
	f, err := os.OpenFile(j.file(id), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, f.Close()
	}
	return &entry{f: f, torn: true}, nil
}

// lockFile locks a file for this descriptor, or fails.
func lockFile(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// lockedFile tells whether another descriptor has locked a file, without keeping
// others from doing so.
func lockedFile(f *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
