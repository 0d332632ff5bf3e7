package guestfs

import (
	"errors"
	"io"
	"time"
)

// The types of files, in File.Mode, as stat(2) has them.
const (
	TypeMask   = 0o170000
	TypeFIFO   = 0o010000
	TypeChar   = 0o020000
	TypeDir    = 0o040000
	TypeBlock  = 0o060000
	TypeFile   = 0o100000
	TypeLink   = 0o120000
	TypeSocket = 0o140000
)

// A File is a file, a folder or anything else that has a name. It is safe for
// concurrent use.
type File struct {
	// Path is where it is in the file system.
	Path string
	// ID is the same for names of the same file, and for no other file.
	ID uint64
	// Mode is the type and the permissions, as stat(2) has them.
	Mode uint32
	// Links is how many names it has.
	Links uint32
	// UID and GID are the guest's owner and group.
	UID, GID uint32
	// Size is the length in bytes.
	Size int64
	// ModTime is when its contents changed.
	ModTime time.Time
	// Major and Minor are the numbers of a device.
	Major, Minor uint32

	fs    *FileSystem
	inode *inode    // ext
	chain *fatChain // FAT
}

// IsDir tells whether it is a folder.
func (f *File) IsDir() bool { return f.Mode&TypeMask == TypeDir }

// IsLink tells whether it is a symbolic link.
func (f *File) IsLink() bool { return f.Mode&TypeMask == TypeLink }

// IsRegular tells whether it is an ordinary file.
func (f *File) IsRegular() bool { return f.Mode&TypeMask == TypeFile }

// Target is where a symbolic link leads.
func (f *File) Target() (target string, err error) {
	defer caught(f.fs.Kind, f.Path, &err)
	switch {
	case !f.IsLink():
		return "", &Error{Offset: -1, Err: errors.New("not a symbolic link")}
	case f.Size <= 0 || f.Size >= maxPath:
		return "", corrupt(-1, "a link of %d bytes", f.Size)
	}
	return f.fs.volume.target(f)
}

// A run is a part of a file that lies in one place.
type run struct {
	end    int64  // of the file: what it goes to, from the offset that was asked for
	at     int64  // of the file system: where the offset that was asked for lies
	hole   bool   // zeros, which lie nowhere
	inline []byte // the bytes themselves, from the offset on
}

// ReadAt reads the contents of an ordinary file, zeros for holes.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	defer caught(f.fs.Kind, f.Path, &err)
	if off < 0 {
		return 0, &Error{Offset: -1, Err: errors.New("a negative offset")}
	}
	for n < len(p) && off < f.Size {
		r, err := f.next(off)
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+r.end-off)]
		switch {
		case r.hole:
			clear(part)
		case r.inline != nil:
			copy(part, r.inline)
		default:
			if err := readAll(f.fs.volume.bytes(), part, r.at); err != nil {
				return n, err
			}
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// next is the run at off, which is below the size, and never an empty one.
func (f *File) next(off int64) (run, error) {
	r, err := f.fs.volume.run(f, off)
	if err != nil {
		return r, err
	}
	r.end = min(r.end, f.Size)
	if r.end <= off {
		return r, corrupt(-1, "no end of what lies at %d", off)
	}
	return r, nil
}

// Data is the first part of the file at or past off that isn't a hole: [begin, end).
// Both are the size when there is none.
func (f *File) Data(off int64) (begin, end int64, err error) {
	defer caught(f.fs.Kind, f.Path, &err)
	// No file has more holes than the image has blocks, but what says so may be a tree
	// whose branches are all the same one.
	holes := int64(0)
	for begin = max(off, 0); begin < f.Size; begin = end {
		if holes++; holes > f.fs.blocks {
			return 0, 0, corrupt(-1, "more holes than the file system has blocks")
		}
		r, err := f.next(begin)
		if err != nil {
			return 0, 0, err
		}
		if end = r.end; !r.hole {
			return begin, end, nil
		}
	}
	return f.Size, f.Size, nil
}
