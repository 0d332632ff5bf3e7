package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"rbdbackupfs/internal/parttable"
)

// A part is a disk or a partition of it, and what it holds.
type part struct {
	number    int   // 0: the whole disk
	off, size int64 // bytes
	holds     string
	usage     string // "filesystem", "raid", "crypto", "other", "" for nothing known
	label     string
}

// String names it, and what is in it.
func (p part) String() string {
	what := "the whole disk"
	if p.number > 0 {
		what = fmt.Sprintf("partition %d", p.number)
	}
	holds := p.holds
	if holds == "" {
		holds = "nothing known"
	}
	text := fmt.Sprintf("%s (%s, %s", what, holds, size(p.size))
	if p.label != "" {
		text += fmt.Sprintf(", %q", p.label)
	}
	return text + ")"
}

func (p part) mountable() bool { return p.usage == "filesystem" }

// choosePart finds what to mount of the disk in a file: number, if that isn't 0, or
// what alone can be mounted. name is what messages call it.
func choosePart(ctx context.Context, file *os.File, name, path string, number int) (part, error) {
	info, err := file.Stat()
	if err != nil {
		return part{}, err
	}
	whole := part{size: info.Size()}
	if err := whole.probe(ctx, path); err != nil {
		return part{}, err
	}
	if number == 0 && whole.mountable() {
		return whole, nil
	}
	table, err := parttable.Read(file, info.Size())
	if err != nil {
		return part{}, fmt.Errorf("%s: %w", name, err)
	}
	parts := make([]part, 0, len(table.Partitions))
	for _, p := range table.Partitions {
		next := part{number: p.Number, off: p.Off, size: p.Size}
		if err := next.probe(ctx, path); err != nil {
			return part{}, err
		}
		parts = append(parts, next)
	}
	if len(parts) == 0 && number == 0 {
		return part{}, fmt.Errorf("%s has neither a file system nor partitions: it holds %s%s", name, whole, whole.cure())
	}
	return pick(parts, name, number)
}

func pick(parts []part, name string, number int) (part, error) {
	var fit []part
	for _, p := range parts {
		if number != 0 && p.number == number {
			if p.mountable() {
				return p, nil
			}
			return part{}, fmt.Errorf("%s has no file system in %s%s", name, p, p.cure())
		}
		if p.mountable() {
			fit = append(fit, p)
		}
	}
	var list strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&list, "\n  %s%s", p, p.cure())
	}
	switch {
	case number != 0 && len(parts) == 0:
		return part{}, fmt.Errorf("%s has no partitions", name)
	case number != 0:
		return part{}, fmt.Errorf("%s has no partition %d; there are%s", name, number, list.String())
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0:
		return part{}, fmt.Errorf("%s has no file system in any partition; there are%s", name, list.String())
	}
	return part{}, fmt.Errorf("%s has several file systems; name one with --partition N%s", name, list.String())
}

// cure says what can be done with what isn't mounted as it is.
func (p part) cure() string {
	switch {
	case p.holds == "LVM2_member":
		return "; docs/recover.md has a recipe for LVM"
	case p.usage == "crypto":
		return "; open it with cryptsetup on a loop device, see docs/recover.md"
	case p.usage == "raid":
		return "; assemble it from a loop device, see docs/recover.md"
	}
	return ""
}

// probe asks blkid what is there.
func (p *part) probe(ctx context.Context, path string) error {
	const nothing = 2 // exit status
	command := exec.CommandContext(ctx, "blkid", "-p", "-o", "export",
		"-O", strconv.FormatInt(p.off, 10), "-S", strconv.FormatInt(p.size, 10), path)
	out, err := command.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && failed.ExitCode() == nothing {
		return nil
	}
	if err != nil {
		return said("blkid", err)
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "TYPE":
			p.holds = value
		case "USAGE":
			p.usage = value
		case "LABEL":
			p.label = value
		}
	}
	return nil
}

// said is what a program that failed printed.
func said(name string, err error) error {
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("%s: %s", name, bytes.TrimSpace(failed.Stderr))
	}
	return fmt.Errorf("%s: %w", name, err)
}

// mount mounts it by a loop device that goes with the mount.
func (p part) mount(ctx context.Context, path, dir string) error {
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show",
		"--offset", strconv.FormatInt(p.off, 10), "--sizelimit", strconv.FormatInt(p.size, 10), path).Output()
	if err != nil {
		return said("losetup", err)
	}
	device := strings.TrimSpace(string(out))
	// The device is written to, for the journal; the mount isn't.
	options := "ro,nodev,nosuid"
	if p.holds == "xfs" {
		options += ",nouuid" // another snapshot of it may be mounted
	}
	_, err = exec.CommandContext(ctx, "mount", "-t", p.holds, "-o", options, device, dir).Output()
	if err != nil {
		err = said("mount", err)
		if strings.Contains(err.Error(), "unknown filesystem type") {
			err = fmt.Errorf("%w; this kernel has no driver for %s; rbdbackupfs files reads ext2, ext3, ext4 and FAT without", err, p.holds)
		}
	}
	// Of a device that is mounted: it goes at the umount. Also if we are interrupted.
	if _, after := exec.CommandContext(context.WithoutCancel(ctx), "losetup", "--detach", device).Output(); after != nil {
		err = errors.Join(err, said("losetup", after))
	}
	return err
}
