package guestfs

import "io"

// An overlay is a file system with the blocks that its journal has newer ones of.
type overlay struct {
	r       io.ReaderAt
	journal *File
	block   int64
	at      map[int64]logged
}

// logged is where in the journal a block lies.
type logged struct {
	position uint32
	escaped  bool
}

// ReadAt reads what lies there, and then over it what the journal has.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.r.ReadAt(p, off)
	if len(o.at) == 0 {
		return n, err
	}
	for number := off / o.block; number*o.block < off+int64(n); number++ {
		l, ok := o.at[number]
		if !ok {
			continue
		}
		from := max(number*o.block, off)
		part := p[from-off : min((number+1)*o.block-off, int64(n))]
		inBlock := from - number*o.block
		if _, err := o.journal.ReadAt(part, int64(l.position)*o.block+inBlock); err != nil {
			return int(from - off), err
		}
		if l.escaped && inBlock < 4 {
			copy(part, be.AppendUint32(nil, journalMagic)[inBlock:])
		}
	}
	return n, err
}
