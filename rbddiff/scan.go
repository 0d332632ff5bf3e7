package rbddiff

import (
	"fmt"
	"io"
	"math/bits"
)

// An Info is what a file says about itself, without its data.
type Info struct {
	// Format is DiffV1 or Container.
	Format Format
	// Header is that of a container; the zero value for a diff v1.
	Header Header
	// Steps are the diffs, in file order: one of a diff v1, at least one of a
	// container. With an error they are those that are whole.
	Steps []Step
	// Broken is the diff in which Scan's error lies, as far as it was read;
	// nil without an error, and when it lies outside of any diff.
	Broken *Step
	// Trailing is the number of bytes after the end of the export.
	Trailing int64
	// Warnings are the oddities that do no harm, trailing bytes among them.
	Warnings []Warning
}

// A Header is what a container says about its image. What it leaves out is
// zero; rbd import takes the cluster's default for it.
type Header struct {
	// Order: objects are 1<<Order bytes, MinOrder to MaxOrder, or 0.
	Order int
	// HasFeatures says whether there is a features record.
	HasFeatures bool
	// Features are the bits that a restored image can be given: the
	// internal and the unknown ones are left out.
	Features uint64
	// RawFeatures are the bits as they are in the file.
	RawFeatures uint64
	// StripeUnit is in bytes, StripeCount in objects.
	StripeUnit, StripeCount uint64
	// Meta is the image-meta; nil when there is none. As in rbd, the last of
	// several pairs with one key counts, and an empty key doesn't.
	Meta map[string]string
}

// A Step is one diff.
type Step struct {
	// From is the start snapshot. Without HasFrom the diff starts from nothing.
	From string
	// To is the end snapshot. Without HasTo the diff ends at the image's head.
	To             string
	HasFrom, HasTo bool
	// Size is the image's size at the end, bytes. Without HasSize it is that
	// at the start, and MaxEnd has to be compared with it: rbd refuses
	// extents that pass it.
	Size    int64
	HasSize bool
	// Protected is the end snapshot's protection, where the file says it.
	Protected bool
	// Pos and End are the diff's range in the file: [Pos, End), its banner
	// and its end record included.
	Pos, End int64
	// Records is the number of data and zero records.
	Records int64
	// DataBytes is the sum of the data records' lengths.
	DataBytes int64
	// MaxEnd is the largest end of an extent, an offset in the image.
	MaxEnd int64
	// HeaderSum is a hash of the names, the size and, in order, the kind,
	// offset and length of each extent: two diffs with different sums differ.
	// It is the same for a diff v1 and for the same diff in a container, and
	// doesn't change between releases of this package. It isn't meant to
	// withstand forgery.
	HeaderSum uint64
}

// Scan reads a whole file from where src stands, without its data. At most
// size bytes of it are looked at; a negative size means all there are. An
// io.Seeker is moved, not restored.
//
// The error is that of NewReader or Next; with the one of Next the Info tells
// what was found before it, otherwise it is nil. Bytes after the end are no
// error, but counted and warned of.
//
// Scan keeps the steps' names (at most MaxNamesTotal) and the image-meta (at
// most MaxMetaTotal) in memory.
func Scan(src io.Reader, size int64) (*Info, error) {
	r := &Reader{src: newSource(src)}
	if size >= 0 && size <= r.src.end-r.src.pos {
		r.src.end = r.src.pos + size
	}
	if err := r.readBanner(); err != nil {
		return nil, err
	}
	info := &Info{Format: r.format}
	s := scanner{r: r, info: info}
	err := s.run()
	info.Warnings = r.Warnings()
	if err == nil {
		err = s.trailing()
	}
	return info, err
}

type scanner struct {
	r    *Reader
	info *Info
	step Step
	in   bool // a diff has begun
}

func (s *scanner) run() error {
	for {
		rec, err := s.r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if s.in {
				broken := s.finished()
				s.info.Broken = &broken
			}
			return err
		}
		s.add(&rec)
	}
}

func (s *scanner) add(rec *Record) {
	switch rec.Kind {
	case Data:
		s.step.DataBytes += rec.Length
		s.extent(rec)
	case Zero:
		s.extent(rec)
	case DiffStart:
		s.step, s.in = Step{Pos: rec.Pos}, true
	case From:
		s.step.From, s.step.HasFrom = rec.Name, true
	case To:
		s.step.To, s.step.HasTo = rec.Name, true
	case Protect:
		s.step.Protected = rec.Protected
	case Size:
		s.step.Size, s.step.HasSize = rec.Size, true
	case End:
		s.info.Steps = append(s.info.Steps, s.finished())
		s.in = false
	default:
		s.info.Header.Add(rec)
	}
}

func (s *scanner) extent(rec *Record) {
	s.step.Records++
	s.step.MaxEnd = max(s.step.MaxEnd, rec.Offset+rec.Length)
	sum := mix(s.step.HeaderSum, uint64(rec.Offset), uint64(rec.Length))
	if rec.Kind == Data {
		sum = bits.RotateLeft64(sum, 23)
	}
	s.step.HeaderSum = sum
}

// finished is the step with its sum closed over names and size, and its end.
func (s *scanner) finished() Step {
	step := s.step
	step.End = s.r.Offset()
	sum := step.HeaderSum
	sum = mixName(sum, step.From, step.HasFrom)
	sum = mixName(sum, step.To, step.HasTo)
	has := uint64(0)
	if step.HasSize {
		has = 1
	}
	step.HeaderSum = mix(sum, uint64(step.Size), has)
	return step
}

// trailing looks for bytes after the end.
func (s *scanner) trailing() error {
	pos := s.r.Offset()
	rest, err := s.r.src.rest()
	if err != nil {
		return s.r.failed(err)
	}
	if rest == 0 {
		return nil
	}
	s.info.Trailing = rest
	s.info.Warnings = append(s.info.Warnings, Warning{
		Pos:    pos,
		Reason: fmt.Sprintf("%s after the end of the export, which are ignored", bytesText(rest)),
		Hint:   "If two exports were put into one file, split it here; otherwise make the export again",
	})
	return nil
}

// Add takes a record of the header; others change nothing.
func (h *Header) Add(rec *Record) {
	switch rec.Kind {
	case HeaderOrder:
		h.Order = int(rec.Number)
	case HeaderFeatures:
		h.HasFeatures, h.RawFeatures = true, rec.Number
		h.Features = rec.Number & settableFeatures
	case StripeUnit:
		h.StripeUnit = rec.Number
	case StripeCount:
		h.StripeCount = rec.Number
	case Meta:
		if rec.Key == "" {
			return
		}
		if h.Meta == nil {
			h.Meta = make(map[string]string)
		}
		h.Meta[rec.Key] = rec.Value
	}
}

// mix folds two numbers into a sum, by a 128-bit product as in wyhash.
func mix(sum, a, b uint64) uint64 {
	hi, lo := bits.Mul64(sum^a^0xa0761d6478bd642f, b^bits.RotateLeft64(sum, 32)^0xe7037ed1a0b428db)
	return hi ^ lo
}

// mixName folds a name into a sum, by FNV-1a; none differs from an empty one.
func mixName(sum uint64, name string, has bool) uint64 {
	hash := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		hash = (hash ^ uint64(name[i])) * 0x100000001b3
	}
	length := uint64(0)
	if has {
		length = 1 + uint64(len(name))
	}
	return mix(sum, hash, length)
}
