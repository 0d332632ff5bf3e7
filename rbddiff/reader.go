package rbddiff

import (
	"fmt"
	"io"
)

// maxWarnings bounds what a file of nothing but oddities makes a Reader keep.
const maxWarnings = 32

// state is what a Reader expects next.
type state uint8

const (
	stateHeader    state = iota // a record of a container's header
	stateDiffs                  // a container's second banner and its count
	stateDiffStart              // the banner of a diff
	stateRecord                 // a record of a diff
	stateDone                   // nothing
)

// A Reader gives the records of a diff v1 or of a container, one by one, in
// file order. For a diff v1 that is DiffStart, its records, End; for a
// container its header records, HeaderEnd, and then the same for each diff.
//
// A Reader allocates for names and image-meta only. It holds at most the
// names of a container's snapshots (MaxNamesTotal) and a buffer of 64 KiB.
// It isn't safe for concurrent use.
type Reader struct {
	src      *source
	format   Format
	state    state
	v2       bool // records carry their length
	single   bool // stop after one diff
	header   headerRules
	group    containerRules
	diff     diffRules
	dataRec  int64 // offset of the last record with a payload, for messages
	dataEnd  int64 // offset where its payload ends
	left     int64 // payload of the current Data record that wasn't read yet
	warnings []Warning
	dropped  int // warnings past maxWarnings
	err      error
}

// NewReader reads the banner of src, which stands at its beginning. Where src
// is an io.Seeker that can seek, data that the caller doesn't read is skipped
// by seeking; otherwise by reading. NewReader and the methods never read
// behind what they need, except into their buffer.
//
// It returns an *Error: ErrUnsupported when src is neither a diff v1 nor a
// container (the reason names what it is, where Detect knows), ErrIncomplete
// when it ends inside the banner, otherwise the error of src.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: newSource(src)}
	if err := r.readBanner(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) readBanner() error {
	err := r.src.need(len(bannerDiffV1))
	if err == nil && string(r.src.bytes(len(bannerDiffV1))) != bannerDiffV1 {
		// Only now: a stream that is a whole diff may have no more bytes.
		err = r.src.need(DetectLen)
	}
	if err != nil && err != io.EOF {
		return r.failed(err)
	}
	prefix := r.src.avail()
	r.format = Detect(prefix[:min(len(prefix), DetectLen)])
	pos := r.src.pos
	switch r.format {
	case DiffV1:
		r.state, r.single = stateDiffStart, true
		r.group.count = 1
		return nil
	case Container:
		r.src.skip(int64(len(bannerImage)))
		r.state, r.v2 = stateHeader, true
		return nil
	case RBDPrefix:
		return r.cut("the file ends inside its banner")
	}
	if len(prefix) == 0 {
		return r.cut("the file is empty")
	}
	reason := "the file's format is " + r.format.String()
	if r.format == Unknown {
		reason = "neither an rbd diff nor a format-2 export: the file has no banner that is known"
	}
	return &Error{Pos: pos, Reason: reason, Hint: r.format.Hint(), Err: ErrUnsupported}
}

// NewDiffReader reads one diff whose banner stands at pos: what Scan gave as
// Step.Pos. A src that can seek is moved there, any other has to stand there.
// Format is that of the file: DiffV1, or Container (DiffV2 means the same).
// The reader ends with io.EOF after the diff's End; what spans the diffs of a
// container isn't checked again, and the DiffStart says 0 of 1.
func NewDiffReader(src io.Reader, format Format, pos int64) (*Reader, error) {
	if format != DiffV1 && format != Container && format != DiffV2 {
		return nil, &Error{Pos: pos, Reason: "no diffs in a file of format " + format.String(), Hint: format.Hint(), Err: ErrUnsupported}
	}
	r := &Reader{src: newSource(src), format: format, state: stateDiffStart, single: true, v2: format != DiffV1}
	r.src.pos, r.src.last = pos, pos
	if r.src.seek == nil {
		r.src.at = pos
	}
	r.group.count = 1
	return r, nil
}

// Format is DiffV1 or Container.
func (r *Reader) Format() Format {
	if r.format == DiffV2 {
		return Container
	}
	return r.format
}

// Warnings are the oddities seen so far, at most 33.
func (r *Reader) Warnings() []Warning {
	if r.dropped == 0 {
		return r.warnings
	}
	return append(r.warnings[:maxWarnings:maxWarnings], Warning{
		Pos: r.src.pos, Reason: fmt.Sprintf("%d more warnings", r.dropped),
	})
}

// Offset is the position in the file behind the last record, or behind what
// was read of its payload. After io.EOF from Next it is the end of the export.
func (r *Reader) Offset() int64 { return r.src.pos }

// Next gives the next record. What is left of the payload of the one before is
// skipped, and known to be there before Next returns without an error. io.EOF
// means that the file was read to its end record and is whole; any other error
// is an *Error, of kind ErrIncomplete or ErrCorrupt or with the error of the
// source. An error is final.
func (r *Reader) Next() (Record, error) {
	var rec Record
	if r.err == nil {
		if r.left > 0 {
			r.src.skip(r.left)
			r.left = 0
		}
		r.err = r.next(&rec)
	}
	if r.err != nil {
		return Record{}, r.err
	}
	return rec, nil
}

func (r *Reader) next(rec *Record) error {
	switch r.state {
	case stateRecord:
		return r.nextRecord(rec)
	case stateHeader:
		return r.nextHeader(rec)
	case stateDiffs:
		if err := r.readCount(); err != nil {
			return err
		}
		return r.startDiff(rec)
	case stateDiffStart:
		return r.startDiff(rec)
	default:
		return io.EOF
	}
}

// Read reads payload of the Data record that Next returned last, and returns
// io.EOF at its end or when there is none. An *Error of kind ErrIncomplete
// says that the file ends before the payload does; it is final.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil && r.err != io.EOF {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.src.readInto(p)
	r.left -= int64(n)
	if err != nil {
		r.err = r.short(err, "the data")
		return n, r.err
	}
	return n, nil
}

// need makes n bytes of the record at the current position available. What
// names the record for the message when the file ends before that.
func (r *Reader) need(n int, what string) error {
	if r.src.hi-r.src.lo >= n {
		return nil
	}
	if err := r.src.need(n); err != nil {
		return r.short(err, what)
	}
	return nil
}

// short makes the error for a source that gave err while what was read.
func (r *Reader) short(err error, what string) error {
	if err != io.EOF {
		return r.failed(err)
	}
	end := r.src.stop()
	switch {
	case end < r.dataEnd:
		return r.cutAt(end, fmt.Sprintf("the file ends inside the data of the record at byte %d, %s short",
			r.dataRec, bytesText(r.dataEnd-end)))
	case end == r.src.pos && what == "":
		return r.cutAt(end, "the file ends without an end record")
	case what == "":
		what = "a record"
	}
	return r.cutAt(end, "the file ends inside "+what)
}

// cut is for a file that ends at the current position, or soon after it.
func (r *Reader) cut(reason string) error { return r.cutAt(r.src.stop(), reason) }

func (r *Reader) cutAt(end int64, reason string) error {
	return &Error{Pos: end, Reason: reason, Hint: hintIncomplete, Err: ErrIncomplete}
}

// failed is for an error of the source itself.
func (r *Reader) failed(err error) error {
	return &Error{Pos: r.src.at, Reason: "reading the file", Hint: hintSource, Err: err}
}

// bad is for a broken rule in the record at pos.
func (r *Reader) bad(pos int64, f *fault) error { return f.at(pos, ErrCorrupt) }

func (r *Reader) warn(w Warning) {
	if len(r.warnings) >= maxWarnings {
		r.dropped++
		return
	}
	r.warnings = append(r.warnings, w)
}
