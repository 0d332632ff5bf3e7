package rbddiff

import "encoding/binary"

// AppendRecord appends the bytes of a record as they stand in a file of format
// DiffV1 or Container; of a Data record, what stands before its payload. The
// banner of a diff belongs to its DiffStart, and the container's list of diffs
// to the first one of them; a container's own banner belongs to no record.
//
// Nothing is checked: Writer does that. A Kind that the format doesn't have
// appends nothing.
func AppendRecord(dst []byte, format Format, rec Record) []byte {
	e := encoder{dst, format != DiffV1}
	e.record(&rec)
	return e.b
}

// encoder appends to b; v2 puts a length after each tag.
type encoder struct {
	b  []byte
	v2 bool
}

func (e *encoder) tag(tag byte, length uint64) {
	e.b = append(e.b, tag)
	if e.v2 {
		e.le64(length)
	}
}

func (e *encoder) le64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// text appends le32 length and bytes.
func (e *encoder) text(s string) {
	e.b = binary.LittleEndian.AppendUint32(e.b, uint32(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) record(rec *Record) {
	switch rec.Kind {
	case Data:
		e.extent('w', rec, 16+uint64(rec.Length))
	case Zero:
		e.extent('z', rec, 16)
	case DiffStart:
		e.diffStart(rec)
	case From:
		e.tag('f', 4+uint64(len(rec.Name)))
		e.text(rec.Name)
	case To:
		e.tag('t', 4+uint64(len(rec.Name)))
		e.text(rec.Name)
	case Size:
		e.tag('s', 8)
		e.le64(uint64(rec.Size))
	case Protect:
		flag := byte(0)
		if rec.Protected {
			flag = 1
		}
		e.tag('p', 1)
		e.b = append(e.b, flag)
	case End:
		e.b = append(e.b, 'e')
	default:
		if e.v2 {
			e.header(rec)
		}
	}
}

func (e *encoder) extent(tag byte, rec *Record, length uint64) {
	e.tag(tag, length)
	e.le64(uint64(rec.Offset))
	e.le64(uint64(rec.Length))
}

func (e *encoder) diffStart(rec *Record) {
	if !e.v2 {
		e.b = append(e.b, bannerDiffV1...)
		return
	}
	if rec.Index == 0 {
		e.b = append(e.b, bannerDiffs...)
		e.le64(uint64(rec.Count))
	}
	e.b = append(e.b, bannerDiffV2...)
}

func (e *encoder) header(rec *Record) {
	switch rec.Kind {
	case HeaderOrder:
		e.number('O', rec.Number)
	case HeaderFeatures:
		e.number('T', rec.Number)
	case StripeUnit:
		e.number('U', rec.Number)
	case StripeCount:
		e.number('C', rec.Number)
	case Meta:
		e.tag('M', 8+uint64(len(rec.Key)+len(rec.Value)))
		e.text(rec.Key)
		e.text(rec.Value)
	case HeaderEnd:
		e.b = append(e.b, 'E')
	}
}

func (e *encoder) number(tag byte, v uint64) {
	e.tag(tag, 8)
	e.le64(v)
}
