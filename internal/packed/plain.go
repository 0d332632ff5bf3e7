package packed

import "io"

// A piece is a part of a file that isn't compressed.
type piece struct {
	*io.SectionReader
	end, size int64
}

// openPlain begins anywhere: for archives without compression.
func openPlain(src io.ReaderAt, size int64, at place) (segment, error) {
	n := min(ChunkSize, size-at.in)
	return &piece{io.NewSectionReader(src, at.in, n), at.in + n, size}, nil
}

func (p *piece) next() (place, bool) { return place{in: p.end}, p.end < p.size }

func (p *piece) close() {}
