package rbddiff

import "fmt"

// Limits. rbd's own are lower or the same wherever it has any.
const (
	// MaxName is the longest snapshot name, bytes.
	MaxName = 4096
	// MaxSize is the largest image: what an off_t can hold, less room for
	// rounding up to any chunk of at most 4 GiB.
	MaxSize = 1<<63 - 1<<32
	// MaxMeta is the longest image-meta record (key, value and their lengths).
	MaxMeta = 1 << 20
	// MaxMetaTotal bounds all image-meta records of one file together.
	MaxMetaTotal = 8 << 20
	// MaxDiffs is how many diffs of one container are read.
	MaxDiffs = 1 << 16
	// MaxNamesTotal bounds the snapshot names of one container together.
	MaxNamesTotal = 16 << 20
)

// The range of a container's object order: objects of 4 KiB to 32 MiB.
const (
	MinOrder = 12
	MaxOrder = 25
)

// A Kind says which record a Record is.
type Kind uint8

// The kinds, and the fields of Record that they use besides Kind and Pos.
const (
	invalidKind    Kind = iota
	HeaderOrder         // object size of the image is 1<<Number bytes: Number (container)
	HeaderFeatures      // feature bits as they are in the file: Number (container)
	StripeUnit          // bytes: Number (container)
	StripeCount         // objects: Number (container)
	Meta                // one image-meta pair: Key, Value (container)
	HeaderEnd           // the end of a container's header
	DiffStart           // a diff begins: Index, Count; Pos is that of its banner
	From                // the snapshot a diff starts from: Name
	To                  // the snapshot a diff ends at: Name
	Protect             // whether that one is protected: Protected
	Size                // the image's size at the diff's end: Size
	Data                // bytes: Offset, Length, DataPos; the payload is read with Reader.Read
	Zero                // zeros: Offset, Length
	End                 // the end of a diff
)

// String names the kind, for example "data".
func (k Kind) String() string {
	names := [...]string{
		"invalid", "order", "features", "stripe unit", "stripe count", "image-meta", "header end",
		"diff start", "start snapshot", "end snapshot", "protection", "size", "data", "zero", "end",
	}
	if int(k) >= len(names) {
		return fmt.Sprintf("kind %d", k)
	}
	return names[k]
}

// A Record is one event of the stream. Which fields have a meaning depends on
// Kind; the others are zero.
type Record struct {
	Kind      Kind
	Protected bool
	// Pos is the offset in the file of the record's first byte.
	Pos int64
	// Offset and Length are the range of the image: [Offset, Offset+Length),
	// which never overflows and never passes the image's size. Length may be 0.
	Offset, Length int64
	// DataPos is the offset in the file of the first of Length data bytes.
	DataPos int64
	// Size is the image's size, bytes, at most MaxSize.
	Size int64
	// Number is the value of a container's header record.
	Number uint64
	// Index is the number of the diff in its file, from 0.
	Index int
	// Count is the number of diffs that the file claims to have, at least 1.
	Count int64
	// Name is a snapshot's name: 1 to MaxName bytes, any but NUL.
	Name string
	// Key and Value are image-meta, any bytes. rbd drops a pair with an empty
	// key, and of several pairs with one key it takes the last.
	Key, Value string
}

// String is for messages: "data 4096~512 at 35".
func (r Record) String() string {
	switch r.Kind {
	case Data, Zero:
		return fmt.Sprintf("%v %d~%d at %d", r.Kind, r.Offset, r.Length, r.Pos)
	case From, To:
		return fmt.Sprintf("%v %q at %d", r.Kind, r.Name, r.Pos)
	case Size:
		return fmt.Sprintf("%v %d at %d", r.Kind, r.Size, r.Pos)
	default:
		return fmt.Sprintf("%v at %d", r.Kind, r.Pos)
	}
}
