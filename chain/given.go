package chain

import "path/filepath"

// shown is what messages call a file: as the user typed it, or its path below the
// repository.
func (l *Library) shown(name string) string {
	if typed, ok := l.given[name]; ok {
		return typed
	}
	return name
}

// where is what commands in messages call a file: they may be typed anywhere.
func (l *Library) where(name string) string {
	if typed, ok := l.given[name]; ok {
		return typed
	}
	return filepath.Join(l.repo.Root(), name)
}
