package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/overlay"
	"rbdbackupfs/internal/shellword"
	"rbdbackupfs/internal/treename"
)

// scratchFolder is where an index folder keeps what is written in scratch/.
const scratchFolder = "scratch"

// scratchFlags say where what is written in scratch/ is kept.
type scratchFlags struct {
	dir   string
	limit string
	none  bool
}

func (f *scratchFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.dir, "scratch", "", "`folder` for what is written in MOUNTPOINT/scratch\n(default scratch/ in the index)")
	flags.StringVar(&f.limit, "scratch-limit", "10GiB", "`size` that all of it may have; a writer gets \"No space left on device\" then")
	flags.BoolVar(&f.none, "no-scratch", false, "no MOUNTPOINT/scratch")
}

// check tells of what is wrong in the flags themselves.
func (f *scratchFlags) check() error {
	if f.none && f.dir != "" {
		return usagef("--scratch and --no-scratch contradict each other")
	}
	_, err := f.size()
	return err
}

func (f *scratchFlags) size() (int64, error) {
	n, err := humanize.ParseBytes(f.limit)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, usagef("--scratch-limit %q is not a size such as 10GiB", f.limit)
	}
	return int64(n), nil
}

// folder is where it is kept: absolute, or "" for nowhere.
func (f *scratchFlags) folder(repo repository, index string) (string, error) {
	switch {
	case f.none, f.dir == "" && index == memoryIndex:
		return "", nil
	case f.dir == "":
		return filepath.Join(index, scratchFolder), nil
	}
	dir, err := resolvePath(f.dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, repo.ID()), nil
}

// openScratch opens what was written in scratch/, once the index is ours.
func (m *mounter) openScratch(repo repository) error {
	dir, err := m.o.scratch.folder(repo, m.session.index)
	if err != nil || dir == "" {
		return err
	}
	limit, err := m.o.scratch.size()
	if err != nil {
		return err
	}
	store, err := overlay.Open(dir, limit)
	if errors.Is(err, overlay.ErrLocked) {
		return fmt.Errorf("%w; name another folder with --scratch DIR, or mount with --no-scratch", err)
	}
	if err != nil {
		return fmt.Errorf("the scratch folder: %w; name another one with --scratch DIR, or mount with --no-scratch", err)
	}
	m.scratch, m.tree.Scratch, m.source.scratch = store, store, store
	for _, info := range store.List() {
		m.kept = append(m.kept, info.Name)
	}
	return nil
}

// closeScratch ends the use of scratch/. A mount that was made to browse leaves what it
// found there, and nothing else.
func (m *mounter) closeScratch() (err error) {
	for _, info := range m.scratch.List() {
		if m.o.untilIdle && !slices.Contains(m.kept, info.Name) {
			err = errors.Join(err, m.scratch.Drop(info.Name))
		}
	}
	return errors.Join(err, m.scratch.Close())
}

// scratchReport says what was written in scratch/.
type scratchReport struct {
	Folder string              `json:"folder"`
	Limit  int64               `json:"limit"` // bytes
	Used   int64               `json:"used"`  // bytes
	Files  []scratchFileReport `json:"files"` // those that were written to
}

// scratchFileReport is one file in scratch/.
type scratchFileReport struct {
	Image    nameReport `json:"image"`
	Snapshot nameReport `json:"snapshot"` // its label
	Path     string     `json:"path,omitempty"`
	Bytes    int64      `json:"bytes"`
	Modified time.Time  `json:"modified"`
	Open     bool       `json:"open"`
	// Withheld is why it can't be opened, one line; empty if it can.
	Withheld string `json:"withheld,omitempty"`
	// Files is what the names of its files begin with.
	Files string `json:"files"`
}

// scratchStatus tells of the files that were written to.
func (s *localSource) scratchStatus() *scratchReport {
	if s.scratch == nil {
		return nil
	}
	report := &scratchReport{Folder: s.scratch.Folder(), Limit: s.scratch.Limit(), Used: s.scratch.Used(), Files: []scratchFileReport{}}
	for _, info := range s.scratch.List() {
		snap, known := s.labeled(info.Image, info.Snapshot)
		file := scratchFileReport{
			Image: newNameReport(info.Image), Snapshot: newNameReport(info.Snapshot),
			Bytes: info.Bytes, Modified: info.Modified, Open: info.Open > 0, Files: info.Files,
		}
		switch {
		case snap != nil:
			file.Path = scratchPath(snap)
		case !known:
		case info.Image == "":
			file.Withheld = info.Err.Error()
		default:
			file.Withheld = "its snapshot isn't served"
		}
		switch {
		case snap == nil:
		case info.Err != nil:
			file.Withheld = info.Err.Error()
		case info.ID != snap.Identity() || info.Size != snap.Size:
			file.Withheld = overlay.ErrChanged.Error()
		}
		report.Files = append(report.Files, file)
	}
	return report
}

// labeled finds a snapshot, nil if there is none. known is false while that isn't sure.
func (s *localSource) labeled(image, label string) (snap *chain.Snapshot, known bool) {
	ended, end := context.WithCancel(context.Background())
	end()
	img, err := s.lib.Image(ended, image)
	if err != nil {
		return nil, s.lib.Status().Progress.Idle
	}
	for _, snap := range img.Snapshots {
		if snap.Label() == label {
			return snap, true
		}
	}
	return nil, true
}

// scratchPath is the file of a snapshot in scratch/, below the mountpoint.
func scratchPath(s *chain.Snapshot) string {
	return treeFolderIn(scratchFolder, s.Image) + "/" + treename.ImageFile(s.Name, s.Of)
}

// line says what keeps a file in scratch/ from being opened, and the cure.
func (r scratchFileReport) line(mountpoint string) string {
	if r.Path == "" {
		return fmt.Sprintf("what was written to %s@%s is kept, and withheld: %s. To drop it: rm %s.*", r.Image.Name, r.Snapshot.Name, r.Withheld, shellword.Word(r.Files))
	}
	return fmt.Sprintf("%s is withheld: %s. To drop what was written: rm %s", r.Path, r.Withheld, shellword.Word(filepath.Join(mountpoint, r.Path)))
}
