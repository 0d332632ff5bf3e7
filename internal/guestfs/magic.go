package guestfs

import "bytes"

// A mark is what a kind of contents is known by.
type mark struct {
	kind string
	at   int64
	text string
}

// marks are those of what is recognised and can't be read, in the order in which
// they are looked for. Each is that of util-linux's libblkid.
func marks() []mark {
	list := []mark{
		{"luks", 0, "LUKS\xba\xbe"},
		{"xfs", 0, "XFSB"},
		{"bitlocker", 3, "-FVE-FS-"},
		{"ntfs", 3, "NTFS    "},
		{"exfat", 3, "EXFAT   "},
		{"squashfs", 0, "hsqs"},
		{"apfs", 32, "NXSB"},
		{"btrfs", 64<<10 + 64, "_BHRfS_M"},
		{"f2fs", 1024, "\x10\x20\xf5\xf2"},
		{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
		{"hfsplus", 1024, "H+\x00\x04"},
		{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
		{"mdraid", 4096, "\xfc\x4e\x2b\xa9"},
		{"mdraid", 0, "\xfc\x4e\x2b\xa9"},
		{"jfs", 32 << 10, "JFS1"},
		{"reiserfs", 64<<10 + 52, "ReIsEr"},
		{"iso9660", 32<<10 + 1, "CD001"},
		{"vmfs", 2<<20 - 0x1000, "\x0d\xd0\x01\xc0"},
	}
	for sector := range int64(4) {
		list = append(list, mark{"lvm", sector*512 + 24, "LVM2 001"})
	}
	for _, page := range []int64{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		list = append(list, mark{"swap", page - 10, "SWAPSPACE2"}, mark{"swap", page - 10, "S1SUSPEND"})
	}
	return list
}

// identify tells what lies there, "" for what isn't known.
func identify(c *pages) (string, error) {
	all := marks()
	for _, m := range all {
		if m.at >= extSuperOffset {
			continue // in an ext there are numbers and files
		}
		if ok, err := has(c, m.at, m.text); ok || err != nil {
			return m.kind, err
		}
	}
	if c.size >= extSuperOffset+extSuperSize {
		sb := make([]byte, extSuperSize)
		if err := c.read(sb, extSuperOffset); err != nil {
			return "", err
		}
		if le.Uint16(sb[0x38:]) == extMagic {
			return extKind(sb), nil
		}
	}
	if kind, err := identifyFAT(c); kind != "" || err != nil {
		return kind, err
	}
	for _, m := range all {
		if ok, err := has(c, m.at, m.text); ok || err != nil {
			return m.kind, err
		}
	}
	return "", nil
}

func has(c *pages, at int64, text string) (bool, error) {
	if at+int64(len(text)) > c.size {
		return false, nil
	}
	p := make([]byte, len(text))
	err := c.read(p, at)
	return err == nil && bytes.Equal(p, []byte(text)), err
}

// A refusal is an ErrUnsupported in words of its own.
type refusal string

// Error is the words.
func (r refusal) Error() string { return string(r) }

// Is tells that it is an ErrUnsupported.
func (r refusal) Is(err error) bool { return err == ErrUnsupported }

// unreadable says of a kind why it isn't read.
func unreadable(kind string) error {
	switch kind {
	case "luks", "bitlocker":
		return refusal("it is encrypted")
	case "lvm":
		return refusal("a physical volume of LVM, whose volumes have the files")
	case "bcache", "mdraid":
		return refusal("a part of an array, which has the files")
	case "swap":
		return refusal("swap space, which has no files")
	}
	return refusal("can't be read without mounting it")
}
