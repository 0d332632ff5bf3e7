package rbddiff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// startDiff reads the banner of the next diff; of a container that had its
// last, it ends the stream.
func (r *Reader) startDiff(rec *Record) error {
	if r.group.done == r.group.count {
		r.state = stateDone
		return io.EOF
	}
	banner := bannerDiffV1
	if r.v2 {
		banner = bannerDiffV2
	}
	pos := r.src.pos
	if err := r.expect(banner, fmt.Sprintf("diff %d of %d", r.group.done+1, r.group.count)); err != nil {
		return err
	}
	r.diff = newDiffRules()
	if !r.single {
		var f *fault
		if r.diff, f = r.group.start(); f != nil {
			return r.bad(pos, f)
		}
	}
	rec.Kind, rec.Pos, rec.Index, rec.Count = DiffStart, pos, int(r.group.done), r.group.count
	r.state = stateRecord
	return nil
}

// expect reads a banner. Bytes that differ are corrupt even where the file
// ends among them.
func (r *Reader) expect(banner, what string) error {
	err := r.src.need(len(banner))
	have := r.src.avail()
	have = have[:min(len(have), len(banner))]
	if !bytes.HasPrefix([]byte(banner), have) {
		return r.bad(r.src.pos, faultf("%q is expected here (%s)", banner[:len(banner)-1], what))
	}
	if err != nil {
		if len(have) == 0 {
			return r.short(err, "the export: "+what+" is missing")
		}
		return r.short(err, "the banner of "+what)
	}
	r.src.skip(int64(len(banner)))
	return nil
}

// nextRecord reads a record of a diff. Unknown ones are skipped in a loop.
func (r *Reader) nextRecord(rec *Record) error {
	for {
		if err := r.need(1, ""); err != nil {
			return err
		}
		r.src.heads++
		rec.Pos = r.src.pos
		switch tag := r.src.buf[r.src.lo]; tag {
		case 'w', 'z':
			return r.extent(rec, tag)
		case 'f', 't':
			return r.name(rec, tag)
		case 's':
			return r.size(rec)
		case 'p':
			return r.protect(rec)
		case 'e':
			return r.endDiff(rec)
		default:
			if !r.v2 {
				return r.bad(rec.Pos, faultf("unknown record %q", tag))
			}
			if err := r.skipUnknown(tag); err != nil {
				return err
			}
		}
	}
}

// fixed makes a record of n payload bytes available, steps over its tag and,
// in a container, its length, which has to be as given (payload and what
// follows, for names and data). It returns the payload.
func (r *Reader) fixed(n int, what string) (payload []byte, length uint64, err error) {
	head := 1
	if r.v2 {
		head = 9
	}
	if err := r.need(head+n, what); err != nil {
		return nil, 0, err
	}
	b := r.src.bytes(head + n)
	if r.v2 {
		length = binary.LittleEndian.Uint64(b[1:])
	}
	r.src.skip(int64(head + n))
	return b[head:], length, nil
}

// checkLength compares a container record's length with its contents.
func (r *Reader) checkLength(pos int64, what string, length, want uint64) error {
	if r.v2 && length != want {
		return r.bad(pos, faultf("%s is said to be %d bytes long, and is %d", what, length, want))
	}
	return nil
}

func (r *Reader) extent(rec *Record, tag byte) error {
	payload, length, err := r.fixed(16, "the header of a data or zero record")
	if err != nil {
		return err
	}
	off, n := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	rec.Kind = Zero
	want := uint64(16)
	if tag == 'w' {
		rec.Kind = Data
		if n <= MaxSize {
			want += n
		}
	}
	f, past := r.diff.addExtent(off, n)
	if f != nil && !past {
		return r.bad(rec.Pos, f)
	}
	if err := r.checkLength(rec.Pos, "the record", length, want); err != nil {
		return err
	}
	rec.Offset, rec.Length = int64(off), int64(n)
	if tag == 'w' {
		rec.DataPos = r.src.pos
		if rec.Length > math.MaxInt64-r.src.pos {
			return r.bad(rec.Pos, faultf("data of %d bytes is longer than any file", n))
		}
		r.left, r.dataRec, r.dataEnd = rec.Length, rec.Pos, r.src.pos+rec.Length
	}
	if past {
		return r.pastSize(rec, f)
	}
	return nil
}

// pastSize decides what an extent that passes the image's size is: where its
// data isn't all there either, a file that was cut off (or a length that was
// mangled), which is the more useful thing to say.
func (r *Reader) pastSize(rec *Record, f *fault) error {
	if rec.Kind == Data {
		r.src.skip(r.left)
		r.left = 0
		if err := r.need(1, ""); err != nil && r.src.stop() < r.dataEnd {
			return err
		}
	}
	return r.bad(rec.Pos, f)
}

func (r *Reader) name(rec *Record, tag byte) error {
	what, record := "start", "the start snapshot's name"
	if tag == 't' {
		what, record = "end", "the end snapshot's name"
	}
	payload, length, err := r.fixed(4, record)
	if err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(payload)
	if f := checkNameLen(what, uint64(n)); f != nil {
		return r.bad(rec.Pos, f)
	}
	if err := r.checkLength(rec.Pos, record, length, 4+uint64(n)); err != nil {
		return err
	}
	if err := r.need(int(n), record); err != nil {
		return err
	}
	rec.Name = string(r.src.bytes(int(n)))
	r.src.skip(int64(n))
	if f := r.addName(rec, tag); f != nil {
		return r.bad(rec.Pos, f)
	}
	return nil
}

func (r *Reader) addName(rec *Record, tag byte) *fault {
	if tag == 'f' {
		rec.Kind = From
		return r.diff.addFrom(rec.Name)
	}
	rec.Kind = To
	if f := r.diff.addTo(rec.Name); f != nil {
		return f
	}
	if r.single {
		return nil
	}
	return r.group.addTo(rec.Name)
}

func (r *Reader) size(rec *Record) error {
	payload, length, err := r.fixed(8, "the image's size")
	if err != nil {
		return err
	}
	if err := r.checkLength(rec.Pos, "the image's size", length, 8); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(payload)
	if f := checkSize(size); f != nil {
		return r.bad(rec.Pos, f)
	}
	if f := r.diff.addSize(int64(size)); f != nil {
		return r.bad(rec.Pos, f)
	}
	rec.Kind, rec.Size = Size, int64(size)
	return nil
}

// protect reads one byte whatever the length says: see the package comment.
func (r *Reader) protect(rec *Record) error {
	payload, length, err := r.fixed(1, "the protection record")
	if err != nil {
		return err
	}
	if length != 8 {
		if err := r.checkLength(rec.Pos, "the protection record", length, 1); err != nil {
			return err
		}
	}
	if f := r.diff.addProtect(); f != nil {
		return r.bad(rec.Pos, f)
	}
	rec.Kind, rec.Protected = Protect, payload[0] != 0
	return nil
}

func (r *Reader) endDiff(rec *Record) error {
	warning, f := r.diff.finish()
	if f != nil {
		return r.bad(rec.Pos, f)
	}
	if warning.Reason != "" {
		warning.Pos = rec.Pos
		r.warn(warning)
	}
	r.src.skip(1)
	rec.Kind = End
	r.group.finish(&r.diff)
	r.state = stateDiffStart
	return nil
}

// skipUnknown steps over a container record whose tag isn't known.
func (r *Reader) skipUnknown(tag byte) error {
	pos := r.src.pos
	_, length, err := r.fixed(0, "a record")
	if err != nil {
		return err
	}
	if length > uint64(math.MaxInt64-r.src.pos) {
		return r.bad(pos, faultf("the record %q is said to be %d bytes long", tag, length))
	}
	r.warn(Warning{Pos: pos, Reason: fmt.Sprintf("unknown record %q is skipped", tag),
		Hint: "A newer release of Ceph may have written it; rbd import of 16.2 skips it too"})
	r.dataRec, r.dataEnd = pos, r.src.pos+int64(length)
	r.src.skip(int64(length))
	return nil
}
