package packed

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	skippableMagic = 0x184d2a50 // to …5f, of zstd and LZ4
	skippableMask  = 0xfffffff0
)

// A zstdFrame is one of the frames of a zstd file. zstd itself makes one; pzstd,
// the seekable format and appending make more.
type zstdFrame struct {
	frame  frameReader
	zstd   *zstd.Decoder // nil at the file's end
	window int64         // bytes
}

func openZstd(src io.ReaderAt, size int64, at place) (segment, error) {
	from := newForward(src, at.in, size)
	if err := skipFrames(from); err != nil {
		return nil, err
	}
	f := &zstdFrame{frame: frameReader{from: from}}
	if f.frame.from.pos() == size {
		return f, nil
	}
	var err error
	if f.window, err = f.frame.header(); err != nil {
		return nil, err
	}
	f.zstd, err = zstd.NewReader(&f.frame, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	return f, err
}

func (f *zstdFrame) Read(p []byte) (int, error) {
	if f.zstd == nil {
		return 0, io.EOF
	}
	n, err := f.zstd.Read(p)
	if err != nil && f.frame.err != nil && f.frame.err != io.EOF {
		return n, f.frame.err // the decoder may have hidden it
	}
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return n, &Error{
			Pos: f.frame.from.pos(), Err: ErrUnsupported, Reason: "needs more than 128 MiB of memory to be unpacked",
			Hint: "Pack it again without --ultra or --long: zstd -dc --long=31 FILE | zstd > NEW",
		}
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return n, &Error{
			Pos: f.frame.from.pos(), Err: ErrUnsupported, Reason: "was packed with a dictionary",
			Hint: "Unpack it first: zstd -D DICTIONARY -dc FILE > NEW",
		}
	}
	return n, err
}

func (f *zstdFrame) next() (place, bool) {
	at := f.frame.from.pos()
	return place{in: at}, at < f.frame.from.size
}

// memory is that of a decoder, which holds half a window more than it has to.
func (f *zstdFrame) memory() int64 { return f.window * 3 / 2 }

func (f *zstdFrame) close() {
	if f.zstd != nil {
		f.zstd.Close()
		f.zstd = nil
	}
}

// skipFrames moves over skippable frames, which hold no content.
func skipFrames(from *forward) error {
	for announced := false; ; {
		head, err := from.Peek(8)
		if err != nil && err != io.EOF {
			return err
		}
		if len(head) < 4 || binary.LittleEndian.Uint32(head)&skippableMask != skippableMagic {
			if announced && len(head) == 0 {
				return io.ErrUnexpectedEOF
			}
			return nil // whatever it is, the frame's reader says so
		}
		if len(head) < 8 {
			return io.ErrUnexpectedEOF
		}
		// pzstd has the size of the frame that follows in one of 4 bytes.
		announced = string(head) == "\x50\x2a\x4d\x18\x04\x00\x00\x00"
		length := int64(binary.LittleEndian.Uint32(head[4:])) + 8
		if length > from.size-from.pos() {
			return io.ErrUnexpectedEOF
		}
		if err := from.skip(length); err != nil {
			return err
		}
	}
}

// A frameReader gives the bytes of one zstd frame, and knows where it ends. Where
// that is, only the headers of all its blocks tell.
type frameReader struct {
	from *forward
	left int64 // of the part that is being passed on: the header, or a block
	last bool  // the part is the last one
	sum  bool  // a checksum follows the last block
	err  error
}

func (r *frameReader) Read(p []byte) (int, error) {
	for r.left == 0 && r.err == nil {
		r.err = r.part()
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		r.err = err
	}
	return n, err
}

// part finds out how long the next block is.
func (r *frameReader) part() error {
	if r.last {
		return io.EOF
	}
	b, err := r.from.Peek(3)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	r.left = 3
	const rle = 1
	if head>>1&3 == rle {
		r.left++
	} else {
		r.left += int64(head >> 3)
	}
	if head&1 != 0 {
		r.last = true
		if r.sum {
			r.left += 4
		}
	}
	return nil
}

// header finds out how long the frame's header is, and how far back the frame can
// refer, bytes.
func (r *frameReader) header() (window int64, err error) {
	all, err := r.from.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return 0, err
	}
	var told zstd.Header
	err = told.Decode(all)
	if errors.Is(err, zstd.ErrMagicMismatch) {
		return 0, &Error{Pos: r.from.pos(), Err: ErrCorrupt, Reason: "isn't zstd from here on"}
	}
	if err != nil {
		return 0, err
	}
	r.left, r.sum = int64(told.HeaderSize), told.HasCheckSum
	if told.SingleSegment {
		return int64(min(told.FrameContentSize, maxWindow)), nil
	}
	return int64(min(told.WindowSize, maxWindow)), nil
}
