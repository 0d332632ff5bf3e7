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

// onlyNameless returns the one file of some that --link could make end at a snapshot;
// nil where there are more, or none.
func (p *planner) onlyNameless(snapshot string, of func(*planFile) bool) (only *planFile) {
	for _, f := range p.files {
		if !of(f) || f.link != "" || f.fault != nil && f.fault.sideCar || !p.couldEnd(f, snapshot) {
			continue
		}
		if f.fault == nil && !fits(&f.steps[len(f.steps)-1], p.wanted[snapshot]) {
			continue
		}
		if only != nil {
			return nil
		}
		only = f
	}
	return only
}
