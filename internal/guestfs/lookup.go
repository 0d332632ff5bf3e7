package guestfs

import (
	"errors"
	"strings"
)

const (
	// maxLinks is how many symbolic links a path may lead through, as in Linux.
	maxLinks = 40
	// maxPath bounds a path and the target of a link, bytes, as in Linux.
	maxPath = 4096
)

// Lookup finds a file by its path. Symbolic links on the way are followed as the
// guest does: an absolute one begins at its root, and nothing leads out of it.
// The last one is followed only if follow says so, or the path ends in "/".
// Errors: fs.ErrNotExist.
func (s *FileSystem) Lookup(path string, follow bool) (_ *File, err error) {
	defer caught(s.Kind, path, &err)
	top, err := s.Root()
	if err != nil {
		return nil, err
	}
	way := []*File{top} // the folders that lead to where we are
	follow = follow || strings.HasSuffix(path, "/")
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		here := way[len(way)-1]
		switch {
		case name == "" || name == ".":
			continue
		case !here.IsDir():
			return nil, &Error{Path: here.Path, Offset: -1, Err: errors.New("not a folder")}
		case name == "..":
			way = way[:max(len(way)-1, 1)]
			continue
		}
		next, err := here.open(name)
		if err != nil {
			return nil, err
		}
		if !next.IsLink() || !follow && blank(todo) {
			way = append(way, next)
			continue
		}
		if links++; links > maxLinks {
			return nil, &Error{Path: next.Path, Offset: -1, Err: errors.New("symbolic links that lead in a circle")}
		}
		target, err := next.Target()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			way = way[:1]
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return way[len(way)-1], nil
}

func (f *File) open(name string) (*File, error) {
	e, err := f.entry(name)
	if err != nil {
		return nil, err
	}
	return e.Open()
}

// blank tells whether what is left of a path says nothing.
func blank(names []string) bool { return strings.Join(names, "") == "" }
