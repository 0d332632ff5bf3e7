package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"rbdbackupfs/internal/guestfs"
)

// guestReport is the JSON of "files".
type guestReport struct {
	Image      string          `json:"image"`
	Snapshot   string          `json:"snapshot"`            // its label
	Partition  *guestPartition `json:"partition,omitempty"` // none for the whole image
	FileSystem string          `json:"filesystem"`
	Label      string          `json:"label,omitempty"`
	// Dirty says that changes in its journal aren't seen.
	Dirty bool              `json:"dirty"`
	Path  string            `json:"path"`
	Files []guestFileReport `json:"files"`
	// Errors are what could not be read.
	Errors []string `json:"errors,omitempty"`
}

// guestFileReport is a file of a guest in JSON. Its name is relative to the folder that was
// asked for.
type guestFileReport struct {
	nameReport
	Type   string      `json:"type"` // as ls -l begins: "-", "d", "l", "c", "b", "p", "s"
	Mode   string      `json:"mode"` // octal permissions
	UID    uint32      `json:"uid"`
	GID    uint32      `json:"gid"`
	Size   int64       `json:"size"`
	MTime  time.Time   `json:"mtime"`
	Links  uint32      `json:"links"`
	Target *nameReport `json:"target,omitempty"` // of a symbolic link
	Device string      `json:"device,omitempty"` // major:minor
}

// A lister visits files and tells what can't be read, once each.
type lister struct {
	ctx    context.Context
	visit  func(name string, f *guestfs.File) error
	failed func(err error)
	seen   map[uint64]bool
	deep   bool
}

func (f *filesRun) list(ctx context.Context, file *guestfs.File) error {
	report := guestReport{
		Image: f.image, Snapshot: f.snapshot.Label, Partition: f.part, FileSystem: f.guest.Kind, Label: f.guest.Label,
		Dirty: f.guest.Dirty, Path: file.Path, Files: []guestFileReport{},
	}
	out := bufio.NewWriter(f.app.stdout)
	failures := 0
	l := &lister{ctx: ctx, deep: f.o.recursive, seen: make(map[uint64]bool)}
	l.failed = func(err error) {
		failures++
		report.Errors = append(report.Errors, err.Error())
		_ = out.Flush() // so that lines come in order on a terminal
		f.app.complain(explain(err))
	}
	l.visit = func(name string, file *guestfs.File) error {
		var target string
		if file.IsLink() {
			var err error
			if target, err = file.Target(); err != nil {
				l.failed(err)
			}
		}
		if f.o.json {
			report.Files = append(report.Files, newGuestFileReport(name, target, file))
			return nil
		}
		_, err := fmt.Fprintln(out, listLine(name, target, file))
		return err
	}
	err := l.start(file)
	if err == nil && f.o.json {
		err = writeJSON(out, report)
	}
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if failures > 0 {
		return exitCode(exitError)
	}
	return nil
}

// start lists a folder, or one file.
func (l *lister) start(file *guestfs.File) error {
	if !file.IsDir() {
		return l.visit(file.Path, file)
	}
	l.seen[file.ID] = true
	return l.folder(file, "")
}

// folder lists what is in one, in the order of names. Folders below it come with all
// that is in them behind their own line; each folder is listed once.
func (l *lister) folder(top *guestfs.File, prefix string) error {
	type place struct {
		folder *guestfs.File
		prefix string
	}
	for todo := []place{{top, prefix}}; len(todo) > 0; {
		here := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		entries, err := here.folder.Entries()
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			l.failed(err)
		}
		var below []place
		for _, e := range entries {
			if err := l.ctx.Err(); err != nil {
				return err
			}
			file, err := e.Open()
			if err != nil {
				l.failed(err)
				continue
			}
			if err := l.visit(here.prefix+e.Name, file); err != nil {
				return err
			}
			if l.deep && file.IsDir() && !l.seen[file.ID] {
				l.seen[file.ID] = true
				below = append(below, place{file, here.prefix + e.Name + "/"})
			}
		}
		for i := len(below) - 1; i >= 0; i-- {
			todo = append(todo, below[i])
		}
	}
	return nil
}

func newGuestFileReport(name, target string, f *guestfs.File) guestFileReport {
	mode := modeString(f.Mode)
	report := guestFileReport{
		nameReport: newNameReport(name), Type: mode[:1], Mode: "0" + strconv.FormatUint(uint64(f.Mode&0o7777), 8),
		UID: f.UID, GID: f.GID, Size: f.Size, MTime: f.ModTime.UTC(), Links: f.Links,
	}
	if f.IsLink() {
		to := newNameReport(target)
		report.Target = &to
	}
	if isDevice(f) {
		report.Device = fmt.Sprintf("%d:%d", f.Major, f.Minor)
	}
	return report
}

// listLine is a line of ls -l, with the numbers of the guest's users.
func listLine(name, target string, f *guestfs.File) string {
	length := strconv.FormatInt(f.Size, 10)
	if isDevice(f) {
		length = fmt.Sprintf("%d,%d", f.Major, f.Minor)
	}
	line := fmt.Sprintf("%s %-11s %12s %s %s", modeString(f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), length, date(f.ModTime), cell(name))
	if f.IsLink() {
		line += " -> " + cell(target)
	}
	return line
}

func isDevice(f *guestfs.File) bool {
	kind := f.Mode & guestfs.TypeMask
	return kind == guestfs.TypeChar || kind == guestfs.TypeBlock
}

// modeString is how ls -l shows a mode.
func modeString(mode uint32) string {
	kinds := map[uint32]byte{
		guestfs.TypeFIFO: 'p', guestfs.TypeChar: 'c', guestfs.TypeDir: 'd', guestfs.TypeBlock: 'b',
		guestfs.TypeFile: '-', guestfs.TypeLink: 'l', guestfs.TypeSocket: 's',
	}
	text := []byte("?rwxrwxrwx")
	if kind, ok := kinds[mode&guestfs.TypeMask]; ok {
		text[0] = kind
	}
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			text[1+i] = '-'
		}
	}
	for i, bit := range []struct {
		bit         uint32
		with, alone byte
	}{{0o4000, 's', 'S'}, {0o2000, 's', 'S'}, {0o1000, 't', 'T'}} {
		if at := 3 * (i + 1); mode&bit.bit != 0 {
			if text[at] == 'x' {
				text[at] = bit.with
			} else {
				text[at] = bit.alone
			}
		}
	}
	return string(text)
}
