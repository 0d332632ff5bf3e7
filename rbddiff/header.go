package rbddiff

import (
	"encoding/binary"
)

// nextHeader reads a record of a container's header.
func (r *Reader) nextHeader(rec *Record) error {
	for {
		if err := r.need(1, "the export's header"); err != nil {
			return err
		}
		rec.Pos = r.src.pos
		tag := r.src.buf[r.src.lo]
		switch tag {
		case 'O':
			return r.number(rec, HeaderOrder)
		case 'T':
			return r.number(rec, HeaderFeatures)
		case 'U':
			return r.number(rec, StripeUnit)
		case 'C':
			return r.number(rec, StripeCount)
		case 'M':
			return r.meta(rec)
		case 'E':
			return r.endHeader(rec)
		}
		if err := r.checkHeaderEnds(tag); err != nil {
			return err
		}
		if err := r.skipUnknown(tag); err != nil {
			return err
		}
	}
}

// checkHeaderEnds knows the second banner where the header's end is missing:
// taken for an unknown record it would be skipped by a length of eight letters.
func (r *Reader) checkHeaderEnds(tag byte) error {
	if tag != bannerDiffs[0] {
		return nil
	}
	if err := r.need(9, "the export's header"); err != nil {
		return err
	}
	if string(r.src.bytes(9)) == bannerDiffs[:9] {
		return r.bad(r.src.pos, faultf("the header of the export has no end"))
	}
	return nil
}

func (r *Reader) number(rec *Record, kind Kind) error {
	payload, length, err := r.fixed(8, "the export's header")
	if err != nil {
		return err
	}
	if err := r.checkLength(rec.Pos, "the header record", length, 8); err != nil {
		return err
	}
	rec.Kind, rec.Number = kind, binary.LittleEndian.Uint64(payload)
	if f := r.header.add(kind, rec.Number); f != nil {
		return r.bad(rec.Pos, f)
	}
	if kind == HeaderFeatures {
		if f := warnFeatures(rec.Number); f != nil {
			r.warn(Warning{Pos: rec.Pos, Reason: f.reason, Hint: f.hint})
		}
	}
	return nil
}

// meta reads 'M' le64 length, le32 klen, key, le32 vlen, value.
func (r *Reader) meta(rec *Record) error {
	_, length, err := r.fixed(0, "an image-meta record")
	if err != nil {
		return err
	}
	if f := r.header.addMeta(length); f != nil {
		return r.bad(rec.Pos, f)
	}
	left := int64(length)
	if rec.Key, err = r.metaString(rec.Pos, &left, 4); err != nil {
		return err
	}
	if rec.Value, err = r.metaString(rec.Pos, &left, 0); err != nil {
		return err
	}
	if left != 0 {
		return r.bad(rec.Pos, faultf("an image-meta record is %d bytes longer than its key and value", left))
	}
	rec.Kind = Meta
	return nil
}

// metaString reads a length and that many bytes, leaving at least reserve of
// the left bytes of the record.
func (r *Reader) metaString(pos int64, left *int64, reserve int64) (string, error) {
	if *left < 4+reserve {
		return "", r.bad(pos, faultf("an image-meta record is too short for its key and value"))
	}
	if err := r.need(4, "an image-meta record"); err != nil {
		return "", err
	}
	n := int64(binary.LittleEndian.Uint32(r.src.bytes(4)))
	r.src.skip(4)
	*left -= 4
	if n > *left-reserve {
		return "", r.bad(pos, faultf("a key or value of %d bytes in an image-meta record with %d left", n, *left))
	}
	*left -= n
	text, err := r.longBytes(n)
	return string(text), err
}

// longBytes reads n bytes, which are at most MaxMeta. The slice grows with what
// is really there: a length alone allocates nothing.
func (r *Reader) longBytes(n int64) ([]byte, error) {
	var text []byte
	for int64(len(text)) < n {
		if err := r.need(1, "an image-meta record"); err != nil {
			return nil, err
		}
		part := r.src.avail()
		part = part[:min(int64(len(part)), n-int64(len(text)))]
		text = append(text, part...)
		r.src.skip(int64(len(part)))
	}
	return text, nil
}

func (r *Reader) endHeader(rec *Record) error {
	if f := r.header.finish(); f != nil {
		r.warn(Warning{Pos: rec.Pos, Reason: f.reason, Hint: f.hint})
	}
	r.src.skip(1)
	rec.Kind = HeaderEnd
	r.state = stateDiffs
	return nil
}

// readCount reads the second banner and the number of diffs.
func (r *Reader) readCount() error {
	if err := r.expect(bannerDiffs, "the list of diffs"); err != nil {
		return err
	}
	pos := r.src.pos
	if err := r.need(8, "the number of diffs"); err != nil {
		return err
	}
	count := binary.LittleEndian.Uint64(r.src.bytes(8))
	r.src.skip(8)
	if count == 0 {
		return r.bad(pos, faultf("the export has no diffs, not even one for the image's head"))
	}
	r.group.count = clampCount(count)
	r.state = stateDiffStart
	return nil
}
