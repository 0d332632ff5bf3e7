package guestfs

// intact compares a block with its checksum.
func (j *journal) intact(kind uint32, p []byte) bool {
	if !j.summed() {
		return true
	}
	at := len(p) - 4
	if kind == journalCommit {
		at = 0x10
	}
	zeroed := append([]byte(nil), p...)
	clear(zeroed[at : at+4])
	return sum(j.seed, zeroed) == be.Uint32(p[at:])
}

func (j *journal) revocations(p []byte, visit func(block uint64)) error {
	n, width := int(be.Uint32(p[12:])), 4
	if j.incompat&journal64 != 0 {
		width = 8
	}
	if n < 16 || n > len(p) {
		return errJournal
	}
	for list := p[16:n]; len(list) >= width; list = list[width:] {
		if width == 8 {
			visit(be.Uint64(list))
		} else {
			visit(uint64(be.Uint32(list)))
		}
	}
	return nil
}

// A tag says where a block of the journal belongs.
type tag struct {
	block    uint64
	position uint32 // in the journal
	escaped  bool
	sum      uint32
}

// tags visits those of a descriptor that lies at a position.
func (j *journal) tags(p []byte, position uint32, visit func(tag) error) error {
	width, end := 8, len(p)
	switch {
	case j.incompat&journalV3 != 0:
		width = 16
	case j.incompat&journalV2 != 0:
		width = 10
	}
	if j.incompat&(journal64|journalV3) == journal64 {
		width += 4
	}
	if j.summed() {
		end -= 4
	}
	for at := 12; at+width <= end; {
		q := p[at:]
		position = j.next(position)
		t := tag{block: uint64(be.Uint32(q)), position: position}
		flags := uint32(be.Uint16(q[6:]))
		if t.sum = uint32(be.Uint16(q[4:])); j.incompat&journalV3 != 0 {
			flags, t.sum = be.Uint32(q[4:]), be.Uint32(q[12:])
		}
		if j.incompat&journal64 != 0 {
			t.block |= uint64(be.Uint32(q[8:])) << 32
		}
		t.escaped = flags&tagEscaped != 0
		if err := visit(t); err != nil {
			return err
		}
		if flags&tagLast != 0 {
			return nil
		}
		if at += width; flags&tagSameUUID == 0 {
			at += 16
		}
	}
	return nil
}
