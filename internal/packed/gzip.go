package packed

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// A gzipMember is one of the members that a gzip file consists of. Most have one;
// bgzip and appending make more.
type gzipMember struct {
	from  *forward
	zip   *gzip.Reader
	bgzf  bool
	given bool // anything
}

func openGzip(src io.ReaderAt, size int64, at place) (segment, error) {
	from := newForward(src, at.in, size)
	zip, err := gzip.NewReader(from.Reader)
	if err != nil {
		return nil, gzipError(err, from.pos())
	}
	zip.Multistream(false)
	return &gzipMember{from: from, zip: zip, bgzf: isBGZF(zip)}, nil
}

// renew makes a member that is over the one that follows: bgzip makes one of each
// 64 KiB, which are less than the buffers of a member.
func (m *gzipMember) renew(at place) (bool, error) {
	if m.from.pos() != at.in {
		return false, nil
	}
	if err := m.zip.Reset(m.from.Reader); err != nil {
		return true, gzipError(err, m.from.pos())
	}
	m.zip.Multistream(false)
	m.bgzf, m.given = isBGZF(m.zip), false
	return true, nil
}

func isBGZF(zip *gzip.Reader) bool { return bytes.Contains(zip.Extra, []byte("BC\x02\x00")) }

func (m *gzipMember) Read(p []byte) (int, error) {
	n, err := m.zip.Read(p)
	m.given = m.given || n > 0
	if err == io.EOF && m.bgzf && m.given && m.from.pos() == m.from.size {
		return n, io.ErrUnexpectedEOF // bgzip ends its files with an empty member
	}
	return n, gzipError(err, m.from.pos())
}

func (m *gzipMember) next() (place, bool) {
	at := m.from.pos()
	return place{in: at}, at < m.from.size && !m.from.zeros()
}

func (m *gzipMember) close() {}

func gzipError(err error, pos int64) error {
	var broken flate.CorruptInputError
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, gzip.ErrChecksum):
		return &Error{Pos: pos, Err: ErrCorrupt, Reason: "the gzip checksum differs"}
	case errors.Is(err, gzip.ErrHeader), errors.As(err, &broken):
		return &Error{Pos: pos, Err: ErrCorrupt, Reason: "isn't gzip from here on"}
	}
	return err
}
