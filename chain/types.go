package chain

import (
	"errors"
	"fmt"
	"time"

	"rbdbackupfs/index"
	"rbdbackupfs/internal/parttable"
)

// Errors a Library or a View returns. Compare with errors.Is.
var (
	// ErrNotFound: no such image or snapshot in the repository.
	ErrNotFound = errors.New("not found")
	// ErrPending: the image's chain is not known yet; ask again later.
	ErrPending = errors.New("still being indexed")
	// ErrDamaged: bytes of a backup file that the read needs are gone or changed.
	ErrDamaged = errors.New("backup file damaged")
	// ErrClosed: the library was closed.
	ErrClosed = errors.New("closed")
	// ErrNoData: no data (NextData) at or after the offset, or the offset is at or past the end.
	ErrNoData = errors.New("no data past this offset")
)

// A State says how far an image has got.
type State string

// The states of an image.
const (
	StatePending State = "pending" // its files are being read; nothing is served yet
	StateReady   State = "ready"   // every snapshot that can be served is
)

// An Image is the state of one image at one moment. It is immutable: a change
// in the repository makes a new one.
type Image struct {
	// Name is the image's name: the folder of its files below the repository,
	// '/' between components, bytes as they are on disk.
	Name string
	// State is StateReady in everything that Library.Image returns.
	State State
	// Snapshots that are served, parents before children, siblings by age.
	Snapshots []*Snapshot
	// Latest is the tip of the chain; of several tips the one with the newest
	// file; nil when nothing is served.
	Latest *Snapshot
	// Problems are the snapshots that are withheld and the files that are
	// damaged, incomplete or not understood.
	Problems []Problem
	// Files are the backup files of the image, sorted by path.
	Files []*File
}

// A Snapshot is one point in time of an image that can be read. Immutable.
type Snapshot struct {
	// Image is the name of the image.
	Image string
	// Name is the snapshot's name, any bytes, at most 4096 of them.
	Name string
	// Of is empty, or the base name of the one backup file that this is read
	// from, when several files claim the same snapshot with different contents.
	Of string
	// Generation differs between any two snapshots of one process whose bytes
	// may differ: a file that was replaced gives its snapshots new ones.
	// It is never 0 and never used again.
	Generation uint64
	// Size is the image's size at this snapshot, bytes.
	Size int64
	// Allocated is how many of them come from data records, bytes.
	Allocated int64
	// ModTime is that of the backup file that ends at this snapshot.
	ModTime time.Time
	// Protected is the snapshot's protection, where the format says it.
	Protected bool
	// Meta is the image-meta of a format-2 export, nil elsewhere.
	Meta map[string]string
	// Partitions are those of a disk with a partition table, sorted by number, nil for
	// none. They lie inside the image; not to be changed.
	Partitions []parttable.Partition
	// Parent is the snapshot that this one's step starts from, nil for a full one.
	Parent *Snapshot
	// Depth is the number of steps from nothing to here, at least 1.
	Depth int
	// Step is the backup file, and the place in it, that ends here.
	Step Link

	node *index.Node
}

// Label is Name, with "~" and Of behind it where Of is set: unique in its image.
func (s *Snapshot) Label() string {
	if s.Of == "" {
		return s.Name
	}
	return s.Name + "~" + s.Of
}

// Identity names the files and steps that the bytes come from: it differs between any
// two snapshots whose bytes may differ, of this and of any other process.
func (s *Snapshot) Identity() string {
	if s.node == nil {
		return ""
	}
	return s.node.ID.String()
}

// Chain returns the links from a full export to this snapshot, in that order.
func (s *Snapshot) Chain() []Link {
	links := make([]Link, s.Depth)
	for i, at := s.Depth-1, s; i >= 0 && at != nil; i, at = i-1, at.Parent {
		links[i] = at.Step
	}
	return links
}

// Trust says what a link rests on.
type Trust string

// The kinds of trust.
const (
	TrustVerified Trust = "verified" // both ends are in one file, or checksums vouch for it
	TrustByName   Trust = "by name"  // the names agree; the formats carry nothing more
	TrustLink     Trust = "link"     // the user said so with --link
	// TrustSuspicious: something speaks against it.
	TrustSuspicious Trust = "suspicious"
)

// Known says how the name of a snapshot is known.
type Known string

// The ways in which names are known.
const (
	KnownHeader   Known = "header"   // the file itself says it
	KnownName     Known = "name"     // the file's name says it
	KnownInferred Known = "inferred" // it is needed, and occurs in the name of the file
	KnownLink     Known = "link"     // the user said so with --link
)

// A Link is one step of a chain: a backup file that leads from a snapshot
// (none for a full one) to another.
type Link struct {
	File  string `json:"file"`         // path below the repository
	Part  int    `json:"part"`         // which diff of a format-2 export, from 0
	From  string `json:"from"`         // empty for a full one
	To    string `json:"to"`           // the snapshot's name
	Trust Trust  `json:"trust"`        // what the link rests on
	Known Known  `json:"known"`        // how To is known
	Bytes int64  `json:"bytes"`        // data in the step
	Alts  int    `json:"alternatives"` // other files that claim the same step and agree
}

// A Kind says what is wrong.
type Kind string

// The kinds of problems.
const (
	KindMissingParent Kind = "missing-parent" // no file ends at the snapshot it needs
	KindIncomplete    Kind = "incomplete"     // the file ends early
	KindCorrupt       Kind = "corrupt"        // the file breaks its format
	KindAmbiguous     Kind = "ambiguous"      // several files claim the same step and differ
	KindCycle         Kind = "cycle"          // the steps run in a circle
	KindDamaged       Kind = "damaged"        // a file that was whole is now shorter or unreadable
	KindUnsupported   Kind = "unsupported"    // qcow2, or not known
	KindUnsettled     Kind = "unsettled"      // still being written
	KindTrailing      Kind = "trailing"       // bytes after the end record
	KindNoSize        Kind = "no-size"        // a diff without the image's size
	KindUnreadable    Kind = "unreadable"     // permission or I/O error
	KindIndex         Kind = "index"          // the index could not be built
	KindBadLink       Kind = "bad-link"       // a --link that fits no file
	KindOdd           Kind = "odd"            // harmless, but rbd doesn't write it
	KindSuspicious    Kind = "suspicious"     // names agree, and something speaks against it
	KindLeftOut       Kind = "left-out"       // the layout doesn't know such files
)

// A Problem is one thing that is wrong with the repository, and its cure.
type Problem struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot,omitempty"` // the one that is withheld, if any
	File     string `json:"file,omitempty"`     // path below the repository
	Offset   int64  `json:"offset"`             // byte in File, -1 when it has no place
	Kind     Kind   `json:"kind"`
	Reason   string `json:"reason"` // what is wrong, one line
	Cure     string `json:"cure"`   // what to do, one line
	// Serving is true where the snapshot is served all the same: a warning.
	Serving bool `json:"serving,omitempty"`
}

// String is the one line a user sees.
func (p Problem) String() string {
	what := p.File
	if p.Snapshot != "" {
		what = p.Image + "@" + p.Snapshot
	}
	line := what + ": " + p.Reason
	if p.Offset >= 0 {
		line += fmt.Sprintf(" (at byte %d of %s)", p.Offset, p.File)
	}
	if p.Cure != "" {
		line += ". " + p.Cure
	}
	return line
}

// A File is one backup file as the repository has it now.
type File struct {
	Path    string    `json:"path"`   // below the repository
	Format  string    `json:"format"` // "raw", "diff v1", "export v2", or what it was taken for
	Size    int64     `json:"size"`   // bytes on disk
	ModTime time.Time `json:"mtime"`
	State   string    `json:"state"` // "ok", "alternative", "unused", or a Kind
	Links   []Link    `json:"links"` // the steps in it
}

// An Event tells what changed in the set of served images and snapshots.
// It comes after the change is visible through the Library.
type Event struct {
	Image   string
	Appear  bool        // the image is new
	Vanish  bool        // the image is gone
	Gone    []*Snapshot // no longer served, or not with these bytes
	New     []*Snapshot // served from now on
	Latest  bool        // Latest changed
	Problem bool        // Problems changed
}

// A Status is what the library has, does and finds wrong, for people and monitoring.
type Status struct {
	Repo      string       `json:"repo"`
	Images    int          `json:"images"`    // images listed
	Pending   int          `json:"pending"`   // of these, not served yet
	Snapshots int          `json:"snapshots"` // served
	Files     int          `json:"files"`     // backup files seen
	Bytes     int64        `json:"bytes"`     // their size
	Layout    LayoutStatus `json:"layout"`
	Progress  Progress     `json:"progress"`
	Problems  []Problem    `json:"problems"`
	Counters  Counters     `json:"counters"`
}

// Progress tells how far listing and indexing have come.
type Progress struct {
	Listed     bool   `json:"listed"`      // it is known which images there are
	FilesDone  int    `json:"files_done"`  // files whose headers are known
	FilesTotal int    `json:"files_total"` // files found
	BytesDone  int64  `json:"bytes_done"`  // of compressed files, which are read whole once
	BytesTotal int64  `json:"bytes_total"` // size of the files that are named like compressed ones
	StepsDone  int    `json:"steps_done"`  // steps indexed
	StepsTotal int    `json:"steps_total"` // steps known
	Now        string `json:"now"`         // the file being read, "" when idle
	Idle       bool   `json:"idle"`        // nothing is left to do
}

// Counters count since the library was opened.
type Counters struct {
	Reads      uint64 `json:"reads"`       // View reads
	ReadBytes  uint64 `json:"read_bytes"`  // bytes they returned
	ReadErrors uint64 `json:"read_errors"` // reads that ended in an error
	Lookups    uint64 `json:"lookups"`     // index lookups that went to the store
}
