package scenario

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// block is what a Disk compares, bytes. File systems write no less.
	block = 4096
	// longestExtent bounds the memory that a diff takes, bytes.
	longestExtent = 4 << 20
)

// A Disk keeps an image in the cluster equal to a local raw file. It stands in
// for a mapped block device, which needs kernel modules that few test machines
// have: a file system lives in the raw file, and what it changed goes to the
// image block by block.
type Disk struct {
	img  *Img
	path string
	seed maphash.Seed
	// sums has the hash of every block as the image has it, 0 for zeros.
	sums []uint64
}

// NewDisk returns a disk for an image that holds nothing but zeros, and makes
// the raw file, sparse and as long as the image.
func (g *Img) NewDisk(path string) *Disk {
	d := &Disk{img: g, path: path, seed: maphash.MakeSeed(), sums: make([]uint64, (g.size+block-1)/block)}
	if g.b.err == nil {
		g.b.err = createSparse(path, g.size)
	}
	return d
}

func createSparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// Sync writes what changed in the file to the image.
func (d *Disk) Sync() {
	if d.img.b.err != nil {
		return
	}
	extents, err := d.changed()
	if err != nil {
		d.img.b.err = err
		return
	}
	d.img.Write(extents...)
}

func (d *Disk) changed() ([]Extent, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var extents []Extent
	buf := make([]byte, block)
	data := dataWalker{f: f}
	for i := range d.sums {
		off := int64(i) * block
		n := min(block, d.img.size-off)
		sum := uint64(0)
		if data.touches(off, off+n) {
			if _, err := io.ReadFull(io.NewSectionReader(f, off, n), buf[:n]); err != nil {
				return nil, err
			}
			sum = d.sum(buf[:n])
		}
		if sum != d.sums[i] {
			d.sums[i] = sum
			extents = extend(extents, off, buf[:n], sum == 0)
		}
	}
	return extents, data.err
}

func (d *Disk) sum(p []byte) uint64 {
	if bytes.Count(p, []byte{0}) == len(p) {
		return 0
	}
	return maphash.Bytes(d.seed, p) | 1
}

// extend adds [off, off+len(p)) to the extents, to the last one where it fits.
func extend(extents []Extent, off int64, p []byte, zero bool) []Extent {
	if last := len(extents) - 1; last >= 0 {
		e := &extents[last]
		switch {
		case zero && e.Zeros > 0 && e.Off+e.Zeros == off:
			e.Zeros += int64(len(p))
			return extents
		case !zero && e.Zeros == 0 && e.Off+int64(len(e.Data)) == off && len(e.Data) < longestExtent:
			e.Data = append(e.Data, p...)
			return extents
		}
	}
	if zero {
		return append(extents, Extent{Off: off, Zeros: int64(len(p))})
	}
	return append(extents, Extent{Off: off, Data: bytes.Clone(p)})
}

// dataWalker tells data from holes in a file, for ascending questions.
type dataWalker struct {
	f          *os.File
	start, end int64 // the data at or after the last question
	err        error
}

// touches tells whether [from, to) may hold data.
func (w *dataWalker) touches(from, to int64) bool {
	for w.end <= from && w.err == nil {
		start, err := unix.Seek(int(w.f.Fd()), from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			start, w.end = 1<<62, 1<<62
		} else if err != nil {
			w.err = err
		} else {
			w.end, w.err = unix.Seek(int(w.f.Fd()), start, unix.SEEK_HOLE)
		}
		w.start = start
	}
	return w.start < to
}
