package guestfs

import "bytes"

// recordLength is the length of the entry that p begins with, of a block of n bytes:
// 64 KiB don't fit into its field, so the two low bits of that carry on.
func recordLength(p []byte, n int) int {
	length := int(le.Uint16(p[4:]))
	if length == 0 || length == 0xFFFF {
		return n
	}
	return length&0xFFFC | length&3<<16
}

// list visits a folder block by block, also one with an index of hashes: that lies
// where it looks empty.
func (v *extVolume) list(f *File, visit func(Entry) error) error {
	in := f.inode
	switch {
	case in.flags&inodeEncrypted != 0:
		return errEncrypted()
	case in.inline != nil:
		return listInline(in.inline[:f.Size], visit)
	case f.Size > v.c.size:
		return corrupt(-1, "a folder of %d bytes in an image of %d", f.Size, v.c.size)
	case f.Size%v.block != 0:
		return corrupt(-1, "a folder of %d bytes, which isn't whole blocks", f.Size)
	}
	for off := int64(0); off < f.Size; off += v.block {
		r, err := v.run(f, off)
		if err != nil {
			return err
		}
		if r.hole {
			// No system writes a folder with holes, and what a deceiving one says may be 2^60 long.
			return corrupt(-1, "a folder with a hole at %d", off)
		}
		p := make([]byte, v.block)
		if err := v.c.read(p, r.at); err != nil {
			return err
		}
		if err := v.checkFolderBlock(in, p, r.at); err != nil {
			return err
		}
		if err := listBlock(p, r.at, visit); err != nil {
			return err
		}
	}
	return nil
}

// listInline visits what a folder holds in its inode: the number of the parent, then
// entries in each of the two parts.
func listInline(data []byte, visit func(Entry) error) error {
	const first = inodeMapEnd - inodeMap
	if len(data) < 4 {
		return corrupt(-1, "a folder of %d bytes", len(data))
	}
	head := data[4:min(first, len(data))]
	if err := listBlock(head, -1, visit); err != nil {
		return err
	}
	return listBlock(data[min(first, len(data)):], -1, visit)
}

// listBlock visits the entries of a block that lies at a byte of the file system.
func listBlock(p []byte, at int64, visit func(Entry) error) error {
	for i, n := 0, len(p); i+8 <= n; {
		length, name := recordLength(p[i:], n), int(p[i+6])
		where := at
		if at >= 0 {
			where += int64(i)
		}
		if length < 8 || length%4 != 0 || length > n-i || 8+name > length {
			return corrupt(where, "an entry of a folder that can't be")
		}
		number, text := le.Uint32(p[i:]), p[i+8:i+8+name]
		i += length
		if number == 0 || bytes.Equal(text, []byte(".")) || bytes.Equal(text, []byte("..")) {
			continue
		}
		if err := checkName(string(text), where); err != nil {
			return err
		}
		if err := visit(Entry{Name: string(text), number: uint64(number)}); err != nil {
			return err
		}
	}
	return nil
}
