package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rbdbackupfs/chain"
)

// A fileReport is a backup file and the image that it was taken for, in JSON. Of
// what is no file of an image only its path and state are known.
type fileReport struct {
	Path    string       `json:"path"`
	Image   string       `json:"image"` // "" for none
	Format  string       `json:"format,omitempty"`
	Size    int64        `json:"size,omitempty"`
	ModTime time.Time    `json:"mtime,omitzero"`
	State   string       `json:"state"`
	Links   []chain.Link `json:"links"`
}

func newFileReport(f *chain.File, image string) fileReport {
	report := fileReport{
		Path: f.Path, Image: image, Format: f.Format, Size: f.Size, ModTime: f.ModTime, State: f.State, Links: f.Links,
	}
	if report.Links == nil {
		report.Links = []chain.Link{}
	}
	if nobodys(f.State) {
		report.Image = ""
	}
	return report
}

// filesOf lists the files of the images, and those of problems that are no image's:
// a folder of nothing but notes is none.
func filesOf(images []imageReport, problems []chain.Problem) []fileReport {
	files := []fileReport{}
	seen := make(map[string]bool)
	for _, img := range images {
		for _, f := range img.Files {
			files = append(files, newFileReport(f, img.bytes()))
			seen[f.Path] = true
		}
	}
	for _, p := range problems {
		if p.File != "" && !seen[p.File] && p.Kind != chain.KindBadLink {
			files = append(files, newFileReport(&chain.File{Path: p.File, State: string(p.Kind)}, ""))
			seen[p.File] = true
		}
	}
	return files
}

// nobodys tells whether a file in this state is of no image, whatever it is called.
func nobodys(state string) bool {
	return state == string(chain.KindLeftOut) || state == string(chain.KindUnsupported)
}

// byPath sorts files as they lie in the repository.
func byPath(files []fileReport) {
	slices.SortStableFunc(files, func(a, b fileReport) int { return strings.Compare(a.Path, b.Path) })
}

// fileColumns choose what a table of files has.
type fileColumns struct{ image, details bool }

// printTable prints a row for each step of each file.
func (a *app) printTable(files []fileReport, columns fileColumns) error {
	table := newTable(a.stdout, columns.row("FILE", "IMAGE", []string{"FORMAT", "SIZE", "DATE"}, "FROM", "TO", "KNOWN BY", "LINK", "STATE")...)
	for _, f := range files {
		image, details := "-", []string{"-", "-", "-"}
		if f.Image != "" {
			image = cell(f.Image)
		}
		if !f.ModTime.IsZero() {
			details = []string{orDash(f.Format), size(f.Size), date(f.ModTime)}
		}
		row := func(from, to, known, link string) {
			table.row(columns.row(cell(f.Path), image, details, from, to, known, link, orDash(f.State))...)
		}
		for _, link := range f.Links {
			row(snapshotOrDash(link.From), cell(link.To), orDash(string(link.Known)), orDash(string(link.Trust)))
		}
		if len(f.Links) == 0 {
			row("-", "-", "-", "-")
		}
	}
	return table.flush()
}

func (c fileColumns) row(file, image string, details []string, rest ...string) []string {
	cells := []string{file}
	if c.image {
		cells = append(cells, image)
	}
	if c.details {
		cells = append(cells, details...)
	}
	return append(cells, rest...)
}

// printFiles prints those of one image.
func (a *app) printFiles(img imageReport) error {
	if len(img.Files) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	return a.printTable(filesOf([]imageReport{img}, nil), fileColumns{details: true})
}
