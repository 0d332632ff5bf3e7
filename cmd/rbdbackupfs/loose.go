package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// looseFiles are backup files that were named one by one. They are one image,
// wherever they lie: the deepest folder that they have in common is the repository,
// of which nothing else is looked at.
type looseFiles struct {
	root  string            // the folder in common
	paths []string          // below it, in the order of the command line
	typed map[string]string // by path
}

// isLoose tells whether the first argument of "restore" is a backup file. What
// can't be looked at is left to who opens it as a repository.
func isLoose(first string) (bool, error) {
	if first == kindStdout {
		return false, errStdin
	}
	resolved, mountpoint, err := findMount(first)
	if err == nil && mountpoint != "" && mountpoint == resolved {
		return false, nil // one whose process is gone can't even be looked at
	}
	info, err := os.Stat(first)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("there is no %s; name a folder of backups, a mountpoint, or backup files", first)
	case err != nil:
		return false, nil //nolint:nilerr // see above
	case info.IsDir():
		return false, nil
	}
	return true, regular(first, info)
}

func regular(name string, info os.FileInfo) error {
	var what string
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return usagef("%s is a folder, and %s", name, onlyFiles)
	case mode&os.ModeDevice != 0:
		what = "a device"
	case mode&os.ModeNamedPipe != 0:
		what = "a pipe"
	default:
		what = "no regular file"
	}
	return usagef("%s is %s: backups aren't read in order, so they have to be in regular files", name, what)
}

const errStdin = usageError("stdin can't be restored from, since backups aren't read in order; save it in a file first")

const onlyFiles = "before TARGET there may only be backup files; for a folder of backups, say: restore REPO IMAGE TARGET"

// findLoose looks for the files.
func findLoose(names []string) (*looseFiles, error) {
	l := &looseFiles{typed: make(map[string]string)}
	files := make([]string, 0, len(names))
	seen := make(map[string]string)
	for _, name := range names {
		info, err := os.Stat(name)
		if name == kindStdout {
			return nil, errStdin
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("there is no file %s, and %s", name, onlyFiles)
		}
		if err != nil {
			return nil, err
		}
		if err := regular(name, info); err != nil {
			return nil, err
		}
		file, err := realPath(name)
		if err != nil {
			return nil, err
		}
		if first, twice := seen[file]; twice {
			return nil, usagef("%s and %s are one file; name it once", first, name)
		}
		seen[file] = name
		files = append(files, file)
	}
	l.root = commonFolder(files)
	for i, file := range files {
		path, err := filepath.Rel(l.root, file)
		if err != nil {
			return nil, err
		}
		l.paths = append(l.paths, path)
		l.typed[path] = names[i]
	}
	return l, nil
}

func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// commonFolder is the deepest folder that all files lie in. Paths are absolute.
func commonFolder(files []string) string {
	folder := filepath.Dir(files[0])
	for _, file := range files[1:] {
		for !within(file, folder) {
			folder = filepath.Dir(folder)
		}
	}
	return folder
}

// show is what messages call a file.
func (l *looseFiles) show(path string) string {
	if typed, ok := l.typed[path]; ok {
		return typed
	}
	return filepath.Join(l.root, path)
}

// links are the --link flags by absolute path, so that a base name that two files
// have isn't taken for both.
func (l *looseFiles) links(flags repoFlags) (map[string]string, error) {
	given, err := flags.linkMap()
	if err != nil {
		return nil, err
	}
	links := make(map[string]string, len(given))
	for name, snapshot := range given {
		path, err := l.find(name)
		if err != nil {
			return nil, err
		}
		links[filepath.Join(l.root, path)] = snapshot
	}
	return links, nil
}

// find takes a file's name as it was typed, any path that leads to it, and last the
// base name or the path below the folder in common, where that is one file's.
func (l *looseFiles) find(name string) (string, error) {
	for _, path := range l.paths {
		if filepath.Clean(l.typed[path]) == name {
			return path, nil
		}
	}
	if file, err := realPath(name); err == nil {
		for _, path := range l.paths {
			if filepath.Join(l.root, path) == file {
				return path, nil
			}
		}
	}
	var found []string
	for _, path := range l.paths {
		if path == name || filepath.Base(path) == name || filepath.Base(l.typed[path]) == name {
			found = append(found, path)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", usagef("--link %s=...: that is none of the files to restore from; write it as you did among them", name)
	}
	return "", usagef("--link %s=...: that is the name of %s and %s; write it as you did among the files", name, l.typed[found[0]], l.typed[found[1]])
}
