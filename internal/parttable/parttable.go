// Package parttable finds the partitions of a disk: MBR with logical partitions,
// and GPT, also by its backup at the end of the disk.
//
//	MBR   sector 0 ──> 4 entries, one of which may be an extended partition
//	                      └──> EBR ──> EBR ──> ...   a sector for each logical partition
//	GPT   sector 0 (protective MBR), sector 1 (header) ──> entries
//	      last sector (backup header) ──> its own copy of the entries
//
// It numbers and bounds partitions as Linux does (block/partitions/msdos.c, efi.c and
// core.c there), since /dev/sda5 of the machine that was backed up is what the user
// looks for. Where Linux would be led in a circle it stops.
//
// What it reads is untrusted. It reads a bounded number of times, of bounded size, and
// only inside the disk; what it returns lies inside the disk as well.
//
// It is not for writing, and knows no schemes inside partitions: BSD disklabels,
// Solaris, Minix, LVM.
package parttable

import (
	"errors"
	"fmt"
	"io"
)

// ErrDamaged says that there is a partition table, and that it can't be used. Compare
// with errors.Is.
var ErrDamaged = errors.New("partition table is damaged")

// An Error says where a partition table is damaged.
type Error struct {
	Pos    int64  // byte on the disk
	Reason string // what is wrong there
	Err    error  // ErrDamaged
}

func (e *Error) Error() string { return fmt.Sprintf("%v at byte %d: %s", e.Err, e.Pos, e.Reason) }

func (e *Error) Unwrap() error { return e.Err }

func damaged(pos int64, format string, args ...any) *Error {
	return &Error{Pos: pos, Reason: fmt.Sprintf(format, args...), Err: ErrDamaged}
}

// The schemes of a Table.
const (
	MBR = "mbr"
	GPT = "gpt"
)

// A Partition is the range [Off, Off+Size) of a disk, bytes. Partitions may overlap.
type Partition struct {
	// Number is the one Linux gives it: 1 to 4 for primary ones, from 5 on for logical
	// ones, the place in the table from 1 on for GPT; at most 255.
	Number int   `json:"number"`
	Off    int64 `json:"offset"` // bytes, at least 0
	Size   int64 `json:"size"`   // bytes, at least 1; an extended partition has 1024 at most, as in Linux
	// Type is a byte as in "0x83" for MBR, a GUID in lower case for GPT.
	Type string `json:"type"`
	// Name is the one that GPT gives, in UTF-8; else empty.
	Name string `json:"name,omitempty"`
}

// A Table is the partitions of a disk.
type Table struct {
	// Scheme is MBR, GPT, or empty for a disk without a table.
	Scheme string
	// Partitions are sorted by number.
	Partitions []Partition
}

const (
	sectorSize = 512
	maxNumber  = 255 // Linux has no larger one, whatever the scheme
)

// Read finds the partition table of a disk of size bytes. A disk without one, which may
// hold a file system instead, gives an empty Table. So does an MBR without a partition:
// the boot sector of a file system looks the same.
//
// Errors: ErrDamaged for a GPT that is damaged in both places; what r returns, wrapped.
func Read(r io.ReaderAt, size int64) (Table, error) {
	d := disk{r, size}
	sector, err := d.sector(0)
	if err != nil || sector == nil || !hasSignature(sector) {
		return Table{}, err
	}
	entries := mbrEntries(sector)
	for _, e := range entries {
		if e.boot != 0 && e.boot != 0x80 {
			// Code, or text, of a boot sector: a FAT or NTFS without partitions.
			return Table{}, nil
		}
	}
	for _, e := range entries {
		if e.kind == typeProtective && e.start == 1 {
			return readGPT(d)
		}
	}
	for _, e := range entries {
		if e.kind == typeProtective {
			return Table{}, nil // neither protects a GPT nor is a table of its own
		}
	}
	return readMBR(d, entries)
}

// A disk is read only where it is.
type disk struct {
	r    io.ReaderAt
	size int64 // bytes
}

// read returns the n bytes at off, nil where not all of them are on the disk.
func (d disk) read(off int64, n int) ([]byte, error) {
	if off < 0 || off > d.size || int64(n) > d.size-off {
		return nil, nil
	}
	b := make([]byte, n)
	got, err := d.r.ReadAt(b, off)
	if got == n {
		return b, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read %d bytes at byte %d: %w", n, off, err)
}

// sector returns a sector of 512 bytes, nil for one past the end.
func (d disk) sector(n int64) ([]byte, error) { return d.read(n*sectorSize, sectorSize) }

// within cuts a range of sectors to the disk; a part of a sector at the end doesn't
// count. ok is false where nothing is left.
func (d disk) within(start, count int64) (off, size int64, ok bool) {
	sectors := d.size / sectorSize
	if count <= 0 || start >= sectors {
		return 0, 0, false
	}
	return start * sectorSize, min(count, sectors-start) * sectorSize, true
}
