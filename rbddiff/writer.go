package rbddiff

import (
	"bufio"
	"io"
)

// A Writer writes a diff v1 or a container, record by record. It refuses what
// a Reader would refuse, so everything it wrote and closed can be read back.
// What a Reader gave comes out byte by byte as it was, but for the records that
// a Reader skips, and for the length of the 'p' record (1 here, as in current
// releases of Ceph; rbd of any release reads both).
//
// It isn't safe for concurrent use.
type Writer struct {
	dst    *bufio.Writer
	format Format
	state  state
	header headerRules
	group  containerRules
	diff   diffRules
	pos    int64 // bytes given to dst
	left   int64 // payload of the last Data record that is still to come
	head   []byte
	err    error
}

// NewWriter begins a file of format DiffV1 or Container; for any other one it
// returns an *Error of kind ErrUnsupported. The caller closes the Writer, and
// afterwards dst.
func NewWriter(dst io.Writer, format Format) (*Writer, error) {
	w := &Writer{dst: bufio.NewWriterSize(dst, largeBuffer), format: format}
	switch format {
	case DiffV1:
		w.state = stateDiffStart
		w.group.count = 1
	case Container:
		w.state = stateHeader
		w.put([]byte(bannerImage))
	default:
		return nil, &Error{Reason: "no writer for " + format.String(), Hint: "Choose diff v1 or export format 2", Err: ErrUnsupported}
	}
	return w, nil
}

// Offset is the number of bytes written, those in the buffer included.
func (w *Writer) Offset() int64 { return w.pos }

// WriteRecord writes a record; Pos and DataPos are ignored, Index too. After a
// Data record exactly Length bytes have to be written with Write before the
// next record. Count of a container's first DiffStart is the number of diffs
// that will follow.
//
// A record that has no place there gives an *Error of kind ErrInvalid and
// isn't written. That error is final, as is one of dst.
func (w *Writer) WriteRecord(rec Record) error {
	if w.err != nil {
		return w.err
	}
	if w.left > 0 {
		w.err = w.invalid(faultf("%d bytes of data are missing before the %v record", w.left, rec.Kind))
		return w.err
	}
	if f := w.check(&rec); f != nil {
		w.err = w.invalid(f)
		return w.err
	}
	w.head = AppendRecord(w.head[:0], w.format, rec)
	w.put(w.head)
	if rec.Kind == Data {
		w.left = rec.Length
	}
	return w.err
}

// Write writes payload of the Data record before it. More than is left of that
// gives an *Error of kind ErrInvalid, which is final, and nothing is written.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		w.err = w.invalid(faultf("%d bytes of data where %d are left", len(p), w.left))
		return 0, w.err
	}
	w.left -= int64(len(p))
	w.put(p)
	if w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// Close writes what is in the buffer. An *Error of kind ErrInvalid says that
// the file isn't whole: the end of the last diff, or a diff, is missing. It
// doesn't close the destination.
func (w *Writer) Close() error {
	if err := w.dst.Flush(); err != nil && w.err == nil {
		w.fail(err)
	}
	if w.err != nil {
		return w.err
	}
	if w.state != stateDone || w.left > 0 {
		return w.invalid(faultf("the export ends early, after %d of %d diffs", w.group.done, w.group.count))
	}
	return nil
}

func (w *Writer) put(p []byte) {
	n, err := w.dst.Write(p)
	w.pos += int64(n)
	if err != nil {
		w.fail(err)
	}
}

func (w *Writer) fail(err error) {
	w.err = &Error{Pos: w.pos, Reason: "writing the file", Hint: "Check the space and the health of the destination", Err: err}
}

func (w *Writer) invalid(f *fault) error {
	return &Error{Pos: w.pos, Reason: f.reason, Err: ErrInvalid}
}

func (w *Writer) check(rec *Record) *fault {
	switch w.state {
	case stateHeader:
		return w.checkHeader(rec)
	case stateDiffStart:
		if rec.Kind == DiffStart {
			return w.startDiff(rec)
		}
	case stateRecord:
		return w.checkDiff(rec)
	}
	return faultf("a %v record has no place here", rec.Kind)
}

func (w *Writer) checkHeader(rec *Record) *fault {
	switch rec.Kind {
	case HeaderOrder, HeaderFeatures, StripeUnit, StripeCount:
		return w.header.add(rec.Kind, rec.Number)
	case Meta:
		return w.header.addMeta(8 + uint64(len(rec.Key)) + uint64(len(rec.Value)))
	case HeaderEnd:
		w.state = stateDiffStart
		return nil
	}
	return faultf("a %v record in the header", rec.Kind)
}

func (w *Writer) startDiff(rec *Record) *fault {
	diff := newDiffRules()
	if w.format == Container {
		if w.group.done == 0 {
			if rec.Count < 1 || rec.Count > MaxDiffs {
				return faultf("%d diffs, allowed are 1 to %d", rec.Count, MaxDiffs)
			}
			w.group.count = rec.Count
		}
		var f *fault
		if diff, f = w.group.start(); f != nil {
			return f
		}
	}
	rec.Index = int(w.group.done)
	w.diff, w.state = diff, stateRecord
	return nil
}

func (w *Writer) checkDiff(rec *Record) *fault {
	switch rec.Kind {
	case Data, Zero:
		if rec.Offset < 0 || rec.Length < 0 {
			return faultf("the extent %d~%d", rec.Offset, rec.Length)
		}
		f, _ := w.diff.addExtent(uint64(rec.Offset), uint64(rec.Length))
		return f
	case From:
		if f := checkNameLen("start", uint64(len(rec.Name))); f != nil {
			return f
		}
		return w.diff.addFrom(rec.Name)
	case To:
		return w.checkTo(rec.Name)
	case Protect:
		return w.diff.addProtect()
	case Size:
		if rec.Size < 0 {
			return faultf("the size %d", rec.Size)
		}
		if f := checkSize(uint64(rec.Size)); f != nil {
			return f
		}
		return w.diff.addSize(rec.Size)
	case End:
		return w.endDiff()
	}
	return faultf("a %v record in a diff", rec.Kind)
}

func (w *Writer) checkTo(name string) *fault {
	if f := checkNameLen("end", uint64(len(name))); f != nil {
		return f
	}
	if f := w.diff.addTo(name); f != nil {
		return f
	}
	if w.format == Container {
		return w.group.addTo(name)
	}
	return nil
}

func (w *Writer) endDiff() *fault {
	if _, f := w.diff.finish(); f != nil {
		return f
	}
	w.group.finish(&w.diff)
	w.state = stateDiffStart
	if w.group.done == w.group.count {
		w.state = stateDone
	}
	return nil
}
