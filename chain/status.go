package chain

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/repo"
)

// Status says what the library has, does and finds wrong.
func (l *Library) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Repo: l.repo.Root(), Problems: []Problem{}}
	s.Layout = l.layoutStatus()
	s.Progress = Progress{Listed: l.imagesKnown(), Now: l.now, Idle: l.isListed && !l.held && l.busy == 0 && len(l.queue) == 0 && len(l.fresh) == 0}
	for _, f := range l.files {
		s.Files++
		s.Bytes += f.pin.Size
		s.Progress.FilesTotal++
		if f.info != nil {
			s.Progress.FilesDone++
		}
		if layout.NamedPacked(f.path) {
			s.Progress.BytesTotal += f.pin.Size
			s.Progress.BytesDone += f.bytesDone()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.images)) {
		img := l.images[name]
		now := img.current.Load()
		s.Progress.StepsTotal += img.steps
		if now.visible() {
			s.Images++
		}
		if now == nil {
			s.Pending++
			continue
		}
		s.Progress.StepsDone += len(now.Snapshots)
		s.Snapshots += len(now.Snapshots)
		s.Problems = append(s.Problems, now.Problems...)
	}
	s.Problems = append(s.Problems, l.placeProblems()...)
	s.Counters = Counters{
		Reads: l.reads.Load(), ReadBytes: l.readBytes.Load(), ReadErrors: l.readErrors.Load(), Lookups: l.ix.Lookups(),
	}
	return s
}

// placeProblems are those that belong to no image: folders that can't be
// read, links that aren't followed, and --link without a file.
func (l *Library) placeProblems() (list []Problem) {
	for _, p := range l.places {
		kind := KindUnsupported
		if p.State == repo.Unreadable {
			kind = KindUnreadable
		} else if p.Cure == "" {
			continue
		}
		list = append(list, Problem{
			File: p.Path, Offset: -1, Kind: kind, Reason: p.Why, Cure: p.Cure, Serving: kind == KindUnsupported,
		})
	}
	if l.isListed {
		list = append(list, l.strayLinks()...)
	}
	slices.SortFunc(list, func(a, b Problem) int { return cmp.Compare(a.File, b.File) })
	return list
}

func (l *Library) strayLinks() (list []Problem) {
	used := map[string]bool{}
	for name := range l.files {
		used[name], used[filepath.Join(l.repo.Root(), name)], used[filepath.Base(name)] = true, true, true
	}
	for file, snap := range l.links {
		if n := l.bases[file]; n > 1 && l.files[file] == nil {
			list = append(list, Problem{
				File: file, Offset: -1, Kind: KindBadLink,
				Reason: fmt.Sprintf("--link says it ends at %s, and %d files are called so", quoted(snap), n),
				Cure:   "Say which one, by its path below " + l.repo.Root(),
			})
		}
		if !used[file] {
			list = append(list, Problem{
				File: file, Offset: -1, Kind: KindBadLink,
				Reason: fmt.Sprintf("--link says it ends at %s, and there is no such file in the repository", quoted(snap)),
				Cure:   "Give the file's path below " + l.repo.Root(),
			})
		}
	}
	return list
}
