package guestfs

import (
	"bytes"
	"io"
	"math/bits"
	"strings"
)

const (
	fatBootSize = 512
	// The number of clusters alone says how wide the numbers in the table are.
	fat12Clusters, fat16Clusters = 4085, 65525
	// fatMaxClusters is what 28 bits can count.
	fatMaxClusters = 0x0FFFFFF5
)

// A fatVolume is FAT12, FAT16 or FAT32.
type fatVolume struct {
	c    *pages
	data io.ReaderAt

	width    int   // bits of a number in the table
	table    int64 // where the table begins, bytes
	cluster  int64 // bytes
	first    int64 // where cluster 2 lies
	clusters uint32
	rootAt   int64 // FAT12, FAT16: where the root lies, outside of clusters
	rootSize int64
	rootFrom uint32 // FAT32: the first cluster of the root
	label    string
}

func openFAT(c *pages, data io.ReaderAt) (*FileSystem, error) {
	boot := make([]byte, fatBootSize)
	if err := c.read(boot, 0); err != nil {
		return nil, err
	}
	v, err := newFATVolume(boot)
	if err != nil {
		return nil, err
	}
	v.c, v.data = c, data
	if v.label, err = v.readLabel(); err != nil {
		return nil, err
	}
	return &FileSystem{Kind: v.kind(), Label: v.label, volume: v, blocks: int64(v.clusters)}, nil
}

// identifyFAT takes no boot sector for one that could be something else, such as the
// beginning of a disk with partitions.
func identifyFAT(c *pages) (string, error) {
	if c.size < fatBootSize {
		return "", nil
	}
	boot := make([]byte, fatBootSize)
	if err := c.read(boot, 0); err != nil {
		return "", err
	}
	jump := boot[0] == 0xEB && boot[2] == 0x90 || boot[0] == 0xE9
	if !jump || boot[510] != 0x55 || boot[511] != 0xAA || boot[21] < 0xF0 {
		return "", nil
	}
	v, err := newFATVolume(boot)
	if err != nil {
		return "", nil //nolint:nilerr // then it isn't one
	}
	return v.kind(), nil
}

func (v *fatVolume) kind() string {
	switch v.width {
	case 12:
		return "fat12"
	case 16:
		return "fat16"
	}
	return "fat32"
}

// newFATVolume takes from the boot sector where everything lies.
func newFATVolume(boot []byte) (*fatVolume, error) {
	sector, perCluster := int64(le.Uint16(boot[11:])), int64(boot[13])
	reserved, copies := int64(le.Uint16(boot[14:])), int64(boot[16])
	rootEntries := int64(le.Uint16(boot[17:]))
	sectors, tableSectors := int64(le.Uint16(boot[19:])), int64(le.Uint16(boot[22:]))
	wide := tableSectors == 0 // so it is FAT32
	if sectors == 0 {
		sectors = int64(le.Uint32(boot[32:]))
	}
	if wide {
		tableSectors = int64(le.Uint32(boot[36:]))
	}
	if bits.OnesCount64(uint64(sector)) != 1 || sector < 512 || sector > 4096 || bits.OnesCount64(uint64(perCluster)) != 1 ||
		reserved == 0 || copies == 0 || tableSectors == 0 {
		return nil, corrupt(0, "a boot sector that can't be")
	}
	v := &fatVolume{table: reserved * sector, cluster: perCluster * sector}
	v.rootAt, v.rootSize = v.table+copies*tableSectors*sector, rootEntries*32
	v.first = v.rootAt + (v.rootSize+sector-1)/sector*sector
	n := (sectors*sector - v.first) / v.cluster
	if n <= 0 || n > fatMaxClusters {
		return nil, corrupt(0, "a boot sector that leaves no room for files")
	}
	v.clusters = uint32(n)
	switch {
	case wide:
		v.width = 32
	case n < fat12Clusters:
		v.width = 12
	case n < fat16Clusters:
		v.width = 16
	default:
		return nil, corrupt(0, "more clusters than its table can count")
	}
	if (n+2)*int64(v.width) > tableSectors*sector*8 {
		return nil, corrupt(0, "a table that is too short for its clusters")
	}
	if wide {
		v.rootFrom = le.Uint32(boot[44:])
		if flags := le.Uint16(boot[40:]); flags&0x80 != 0 { // one table is in use, not all of them
			v.table += min(int64(flags&0xF), copies-1) * tableSectors * sector
		}
	}
	return v, nil
}

// next is the cluster behind one, and whether there is one.
func (v *fatVolume) next(cluster uint32) (uint32, bool, error) {
	p := make([]byte, 4)
	at := v.table + int64(cluster)*int64(v.width)/8
	if err := v.c.read(p[:(v.width+7)/8], at); err != nil {
		return 0, false, err
	}
	n, last := le.Uint32(p), uint32(0x0FFFFFF8)
	switch v.width {
	case 12:
		if n, last = uint32(le.Uint16(p)), 0xFF8; cluster%2 == 1 {
			n >>= 4
		}
		n &= 0xFFF
	case 16:
		last = 0xFFF8
	default:
		n &= 0x0FFFFFFF
	}
	if n >= last {
		return 0, false, nil
	}
	return n, true, v.checkCluster(n, at)
}

func (v *fatVolume) checkCluster(n uint32, at int64) error {
	if n < 2 || n-2 >= v.clusters {
		return corrupt(at, "it refers to cluster %d of %d", n, v.clusters)
	}
	return nil
}

// at is where a cluster lies.
func (v *fatVolume) at(cluster uint32) int64 { return v.first + int64(cluster-2)*v.cluster }

func (v *fatVolume) bytes() io.ReaderAt { return v.data }

// same is how FAT compares names.
func (v *fatVolume) same(a, b string) bool { return strings.EqualFold(a, b) }

func (v *fatVolume) root() (File, error) {
	f := File{ID: fatFolderID | uint64(v.rootFrom), Mode: TypeDir | 0o755, Links: 1, chain: &fatChain{root: v.rootFrom == 0, from: v.rootFrom}}
	if v.rootFrom != 0 {
		return f, v.checkCluster(v.rootFrom, -1)
	}
	return f, nil
}

// readLabel is that of the root, since the one in the boot sector isn't kept up.
func (v *fatVolume) readLabel() (label string, err error) {
	f, err := v.root()
	if err != nil {
		return "", err
	}
	err = v.slots(&f, func(slot *[32]byte, _ int64) error {
		if slot[0] != fatDeleted && slot[11] != fatLong && slot[11]&fatLabel != 0 {
			label = strings.TrimRight(oem(slot[:11]), " ")
		}
		return nil
	})
	return label, err
}

func (v *fatVolume) target(*File) (string, error) { return "", unsupported("symbolic links") }

// shortName is the name of at most 8 and 3 letters.
func shortName(slot *[32]byte) string {
	base, ext := bytes.Clone(slot[:8]), bytes.Clone(slot[8:11])
	if base[0] == 0x05 {
		base[0] = 0xE5 // which would say that the entry is deleted
	}
	name, ending := strings.TrimRight(oem(base), " "), strings.TrimRight(oem(ext), " ")
	if slot[12]&0x08 != 0 { // as Windows NT and Linux note it
		name = strings.ToLower(name)
	}
	if slot[12]&0x10 != 0 {
		ending = strings.ToLower(ending)
	}
	if ending != "" {
		name += "." + ending
	}
	return name
}

// oem reads code page 437, that of the short names.
func oem(p []byte) string {
	const upper = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0"
	table := []rune(upper)
	var b strings.Builder
	for _, c := range p {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			b.WriteRune(table[c-0x80])
		}
	}
	return b.String()
}
