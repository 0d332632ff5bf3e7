package repo

import (
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"
)

// takeEvents looks at what inotify has reported.
func (w *watch) takeEvents() {
	paths, lost := w.notify.take()
	if lost {
		w.log.Debug("inotify lost events", slog.String("path", w.repo.path))
		w.rescanAt.set(w.repo.now())
		return
	}
	names := make(map[*folder]map[string]struct{})
	for path := range paths {
		if path == "." {
			w.checkRoot()
			continue
		}
		if !w.repo.only.has(path) {
			continue
		}
		f, name, direct := w.tree.nearest(path)
		if !direct {
			w.straySeen(path)
		}
		if names[f] == nil {
			names[f] = make(map[string]struct{})
		}
		names[f][name] = struct{}{}
	}
	var toRead []*folder
	for f, set := range names {
		toRead = append(toRead, w.lookAtNames(f, set)...)
	}
	w.tidy() // first: a folder that was renamed is watched anew
	for _, f := range toRead {
		if !f.dropped {
			w.read(f)
		}
	}
}

// straySeen is for an event below a folder that isn't known. Either the folder
// is new or was deleted, or it was moved and is watched under its old name; then
// the name is given up and the next look at the whole tree takes the new one.
func (w *watch) straySeen(path string) {
	dir, _ := split(path)
	if w.notify.unwatch(dir) {
		w.rescanAt.atLatest(w.repo.now() + eventDelay)
	}
}

// lookAtNames looks at single names of a folder, and returns the folders that
// have to be read because of what it saw.
func (w *watch) lookAtNames(f *folder, names map[string]struct{}) []*folder {
	if f.dropped {
		return nil
	}
	looks := make([]nameLook, 0, len(names))
	err := w.repo.withFolder(f.path, func(dirfd int) error {
		for name := range names {
			look := lookAt(dirfd, name, false, w.repo.only != nil)
			look.file.at = w.repo.now()
			looks = append(looks, look)
		}
		return nil
	})
	if err != nil {
		w.folderFailed(f, err)
		return nil
	}
	var toRead []*folder
	for _, look := range looks {
		if sub := w.tree.takeLook(f, look); sub != nil {
			toRead = append(toRead, sub)
		}
	}
	return toRead
}

// folderFailed is for a folder that can't even be opened.
func (w *watch) folderFailed(f *folder, err error) {
	switch {
	case f == w.tree.root:
		w.rootFailed(err)
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP):
		w.lookAgain(f.path)
	default:
		w.read(f)
	}
}

// lookAgain looks at a folder's own name after it was not to be found.
func (w *watch) lookAgain(path string) {
	f, name, direct := w.tree.nearest(path)
	if !direct || f.dropped {
		return
	}
	for _, sub := range w.lookAtNames(f, map[string]struct{}{name: {}}) {
		w.read(sub)
	}
}

// checkRoot sees whether the root is where it was, and starts over where it
// has come back or is another one.
func (w *watch) checkRoot() {
	w.rootAt.set(w.repo.now() + rootEvery)
	swapped, err := w.repo.refreshRoot()
	switch {
	case err != nil:
		w.rootTrouble(err)
	case swapped:
		w.full = false // one that is under way looks at the old one
		w.rescan()
	case w.rootError != "":
		w.rescan()
	}
}

// rootFailed is for a root that can't be read: it may have vanished.
func (w *watch) rootFailed(err error) {
	swapped, gone := w.repo.refreshRoot()
	switch {
	case gone != nil:
		w.rootTrouble(gone)
	case swapped:
		w.full = false
		w.rescan()
	default:
		w.rootTrouble(err)
	}
}

// rootTrouble tells, once, that the repository can't be read.
func (w *watch) rootTrouble(err error) {
	e := w.repo.folderError(".", err)
	if w.rootError == "" {
		w.log.Warn("the repository can't be read",
			slog.String("path", w.repo.path), slog.Any("error", err), slog.String("hint", e.Hint))
	}
	w.rootError = err.Error()
	w.tree.trouble(w.tree.root, e)
	if w.repo.root.Load() == nil {
		w.tree.leave(w.tree.root) // its watches are of a folder that is no longer there
	}
}
