package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"rbdbackupfs/internal/guestfs"
	"rbdbackupfs/internal/parttable"
)

// A guestPartition is a partition and what lies on it.
type guestPartition struct {
	parttable.Partition
	Kind string `json:"filesystem"` // "" for what isn't known
}

// openGuest opens the file system that is meant.
func (f *filesRun) openGuest(image io.ReaderAt) error {
	begin, length := int64(0), f.snapshot.Size
	part, err := f.choose(image)
	if err != nil {
		return err
	}
	if part != nil {
		begin, length = part.Off, part.Size
	}
	f.part = part
	f.guest, err = guestfs.Open(io.NewSectionReader(image, begin, length), length)
	switch {
	case errors.Is(err, guestfs.ErrNone):
		return fmt.Errorf("%s has no file system that is known; see what is there: file -s, blkid or fdisk -l on the image", f.place())
	case errors.Is(err, guestfs.ErrUnsupported):
		return fmt.Errorf("%s: %w; %s", f.place(), err, f.otherWay(err))
	case err != nil:
		return fmt.Errorf("%s: %w", f.place(), err)
	}
	if f.guest.Dirty {
		f.say("%s: the file system was in use: changes still in its journal aren't seen; rbdbackupfs browse replays it", f.place())
	}
	return nil
}

// otherWay is how to get at files that can't be read here.
func (f *filesRun) otherWay(err error) string {
	e := (*guestfs.Error)(nil)
	if errors.As(err, &e) && slices.Contains([]string{"lvm", "bcache", "mdraid", "luks", "bitlocker", "swap"}, e.Kind) {
		return "attach the image with losetup --partscan, and open it with the tools of " + e.Kind
	}
	return "mount it: rbdbackupfs browse --help"
}

// place names the image, and the partition if it isn't the whole.
func (f *filesRun) place() string {
	if f.part == nil {
		return cell(f.label())
	}
	return fmt.Sprintf("%s, partition %d", cell(f.label()), f.part.Number)
}

// choose finds the partition that is meant, nil for the whole image.
func (f *filesRun) choose(image io.ReaderAt) (*guestPartition, error) {
	if f.o.partition == 0 {
		return nil, nil
	}
	table, err := parttable.Read(image, f.snapshot.Size)
	if err != nil {
		if kind, again := guestfs.Identify(image, f.snapshot.Size); again == nil && guestfs.Readable(kind) && f.o.partition == noPartition {
			return nil, nil // it was one with partitions before
		}
		return nil, fmt.Errorf("%s: %w", cell(f.label()), err)
	}
	var parts []guestPartition
	for _, p := range table.Partitions {
		kind, err := guestfs.Identify(io.NewSectionReader(image, p.Off, p.Size), p.Size)
		if err != nil {
			kind = "unreadable: " + err.Error()
		}
		parts = append(parts, guestPartition{p, kind})
	}
	if f.o.partition != noPartition {
		return f.numbered(parts)
	}
	return f.only(parts)
}

func (f *filesRun) numbered(parts []guestPartition) (*guestPartition, error) {
	for i := range parts {
		if parts[i].Number == f.o.partition {
			return &parts[i], nil
		}
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%s has no partitions; leave --partition out", cell(f.label()))
	}
	return nil, fmt.Errorf("%s has no partition %d, but:%s", cell(f.label()), f.o.partition, partitionLines(parts))
}

// only is the one partition that can be read. That the firmware boots from doesn't
// count beside others.
func (f *filesRun) only(parts []guestPartition) (*guestPartition, error) {
	if len(parts) == 0 {
		return nil, nil
	}
	var readable, systems []*guestPartition
	for i := range parts {
		switch p := &parts[i]; {
		case !guestfs.Readable(p.Kind):
		case p.Type == "0xef" || p.Type == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b":
			systems = append(systems, p)
		default:
			readable = append(readable, p)
		}
	}
	if len(readable) == 0 {
		readable = systems
	}
	if len(readable) == 1 {
		return readable[0], nil
	}
	if len(readable) == 0 {
		return nil, fmt.Errorf("%s has no partition that can be read without mounting it (see: rbdbackupfs browse --help):%s", cell(f.label()), partitionLines(parts))
	}
	return nil, fmt.Errorf("%s has several partitions with files; say which with --partition:%s", cell(f.label()), partitionLines(parts))
}

// partitionLines are for a message, a line for each.
func partitionLines(parts []guestPartition) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "\n  %d: %s, type %s", p.Number, size(p.Size), p.Type)
		if p.Name != "" {
			b.WriteString(", " + printable(p.Name))
		}
		if p.Kind != "" {
			b.WriteString(", " + printable(p.Kind))
		}
	}
	return b.String()
}

// notFound says where to look for what isn't there.
func (f *filesRun) notFound(err error) error {
	e := (*guestfs.Error)(nil)
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", f.place(), err)
	}
	folder := path.Dir(e.Path)
	return fmt.Errorf("there is no %s in %s; see: rbdbackupfs files %s %s", printable(e.Path), f.place(), f.repo, shellWord(f.label()+":"+folder))
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if !strings.ContainsAny(s, " '\"\\$`&;|<>()*?[]#~!{}\n\t") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
