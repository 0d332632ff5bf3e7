package main

import (
	"fmt"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/layout"
)

// printAll prints the snapshots of all images, and those that are withheld.
func (a *app) printAll(report lsReport) error {
	if len(report.Images) == 0 && len(report.Problems) == 0 {
		a.printNone(report)
		return nil
	}
	table := newTable(a.stdout, "IMAGE", "SNAPSHOT", "SIZE", "ALLOCATED", "DATE", "FILES", "LINK", "STATE")
	for _, img := range report.Images {
		for _, s := range img.Snapshots {
			table.row(cell(img.bytes()), snapshotCell(s), size(s.Size), size(s.Allocated), date(s.MTime),
				fmt.Sprint(s.Depth), string(s.Trust), snapshotState(img, s))
		}
		for _, p := range img.Problems {
			if p.Snapshot != "" && !p.Serving {
				table.row(cell(img.bytes()), cell(p.Snapshot), "-", "-", "-", "-", "-", "withheld: "+string(p.Kind))
			}
		}
		if img.State == chain.StatePending {
			table.row(cell(img.bytes()), "-", "-", "-", "-", "-", "-", "pending")
		}
	}
	if err := table.flush(); err != nil {
		return err
	}
	a.printRules(report)
	a.printIndexing(report)
	a.printProblems(report)
	return nil
}

// printAllFiles prints the files of all images, image by image.
func (a *app) printAllFiles(report lsReport) error {
	files := filesOf(report.Images, report.Problems)
	if len(files) > 0 {
		if err := a.printTable(files, fileColumns{image: true, details: true}); err != nil {
			return err
		}
	} else if len(report.Problems) == 0 {
		a.printNone(report)
		return nil
	}
	a.printRules(report)
	a.printIndexing(report)
	a.printProblems(report)
	return nil
}

// printNone says that there is nothing, or nothing yet.
func (a *app) printNone(report lsReport) {
	if report.Indexing == nil {
		fmt.Fprintf(a.stdout, "no backup files in %s\n", printable(report.Repo))
		return
	}
	fmt.Fprintf(a.stdout, "nothing is known yet of %s: indexing %s goes on\n", printable(report.Repo), workLeft(*report.Indexing))
}

// printIndexing says that there is more than a running mount knows.
func (a *app) printIndexing(report lsReport) {
	if report.Indexing != nil {
		fmt.Fprintf(a.stdout, "\nindexing %s goes on; what is missing here comes with it\n", workLeft(*report.Indexing))
	}
}

// printRules says how images were told apart where that isn't what everybody
// expects, by folders and names.
func (a *app) printRules(report lsReport) {
	if r := report.Layout; r != nil && (r.Left > 0 || r.Rules[layout.Barc]+r.Rules[layout.OpenNebula]+r.Rules[layout.Regex] > 0) {
		fmt.Fprintf(a.stdout, "\nlayout: %s; see: rbdbackupfs layout %s\n", printable(r.String()), printable(report.Repo))
	}
}
