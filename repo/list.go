package repo

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// List looks once at the whole tree and returns what is there, sorted by path
// (bytewise). Regular files are Seen or Hidden. Each problem is an *Error about
// a folder that could not be read; everything else is listed all the same. The
// last result is an error, ErrGone for one, when the root itself can't be read,
// or ctx's when it ended early.
func (r *Repo) List(ctx context.Context) (files []File, problems []*Error, err error) {
	if _, err := r.refreshRoot(); err != nil {
		return nil, nil, r.folderError(".", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := r.startScanner(ctx, nil)
	defer s.stop()
	defer cancel()

	s.add(".")
	for left := 1; left > 0; left-- {
		var look folderLook
		select {
		case look = <-s.looks:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if look.err != nil {
			problem := r.folderError(look.path, look.err)
			if look.path == "." {
				return nil, nil, problem
			}
			if !errors.Is(look.err, unix.ENOENT) { // deleted meanwhile
				problems = append(problems, problem)
			}
		}
		files = appendFiles(files, &look)
		for _, sub := range look.subs {
			s.add(join(look.path, sub.name))
		}
		left += len(look.subs)
	}
	if len(files) > 0 {
		r.populated.Store(true)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	// Network file systems may give a name twice when a folder changes meanwhile.
	files = slices.CompactFunc(files, func(a, b File) bool { return a.Path == b.Path })
	slices.SortFunc(problems, func(a, b *Error) int { return strings.Compare(a.Path, b.Path) })
	return files, problems, nil
}

func appendFiles(files []File, look *folderLook) []File {
	files = slices.Grow(files, len(look.files))
	for i := range look.files {
		f := &look.files[i]
		files = append(files, fileOf(join(look.path, f.name), f.pin, stateFor(f.reason, Seen), f.reason))
	}
	return files
}

// stateFor is the state that a reason means; otherwise that of a regular file.
func stateFor(why reason, otherwise State) State {
	switch why {
	case reasonNone:
		return otherwise
	case reasonWritten, reasonOpen:
		return Unsettled
	case reasonDenied, reasonIO:
		return Unreadable
	default:
		return Hidden
	}
}

func fileOf(path string, pin Pin, state State, r reason) File {
	why, cure := r.words()
	return File{Path: path, Pin: pin, State: state, Why: why, Cure: sentence(cure)}
}

// folderError is the problem of a folder that can't be read.
func (r *Repo) folderError(path string, err error) *Error {
	e := &Error{Op: "list", Path: r.abs(path), Err: err, Hint: hint(err)}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
		e.Err = classify(err)
		e.Hint = "mount or restore the folder"
	}
	return e
}
