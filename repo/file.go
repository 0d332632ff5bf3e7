package repo

import "strconv"

// A Pin identifies a file's contents for as long as nobody forges them: it
// holds over restarts and remounts, which is why it has no device number.
type Pin struct {
	Inode   uint64
	Size    int64 // bytes
	MTimeNs int64 // nanoseconds since 1970
}

// A State says what is to be thought of a path.
type State uint8

// The states.
const (
	// Seen: a regular file that was looked at once. Only List reports it; one
	// look can't tell whether somebody still writes to it.
	Seen State = iota
	// Settled: a regular file that can be opened and that nobody writes to.
	Settled
	// Unsettled: a regular file that is, or just was, being written.
	Unsettled
	// Hidden: a path that is left alone: a temporary name, a symbolic link, a
	// device and the like, or a folder that is not descended into.
	Hidden
	// Unreadable: a file or a folder that can't be opened. What was known to be
	// in such a folder stays known. The path is "." for the repository itself.
	Unreadable
)

// String returns the state in lower case, as users see it.
func (s State) String() string {
	switch s {
	case Seen:
		return "seen"
	case Settled:
		return "settled"
	case Unsettled:
		return "unsettled"
	case Hidden:
		return "hidden"
	case Unreadable:
		return "unreadable"
	default:
		return "state " + strconv.Itoa(int(s))
	}
}

// A File is a path of the repository at one moment.
type File struct {
	// Path is relative to the root, '/' between components, bytes as on disk.
	Path string
	// Pin is that of the latest look at a regular file, else zero.
	Pin   Pin
	State State
	// Why says in one line why a file is not Seen or Settled, and Cure what to
	// do about it, a sentence. Cure is empty where there is nothing to be done.
	Why, Cure string
}

// A Kind says how a path has changed.
type Kind uint8

// The kinds of changes.
const (
	Added   Kind = iota + 1 // the path was not known before
	Changed                 // its Pin, its State or its Why changed
	Gone                    // it is no more; File is as it was last
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Added:
		return "added"
	case Changed:
		return "changed"
	case Gone:
		return "gone"
	default:
		return "kind " + strconv.Itoa(int(k))
	}
}

// A Change is one path that Watch has something new about.
type Change struct {
	Kind Kind
	File File
	// Initial is true for every change of the first batch, which is the whole
	// tree as it was found, and false in all later ones.
	Initial bool
}
