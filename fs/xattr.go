package fs

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"rbdbackupfs/chain"
)

// The extended attributes of images; folders of images have the first two.
const (
	xattrPrefix      = "user.rbdbackupfs."
	xattrPool        = xattrPrefix + "pool"             // the image's first component
	xattrImage       = xattrPrefix + "image"            // the image's name, as in the repository
	xattrSnapshot    = xattrPrefix + "snapshot"         // the snapshot's name, any bytes
	xattrOf          = xattrPrefix + "of"               // the file it is read from, of several that claim it
	xattrParent      = xattrPrefix + "parent"           // the snapshot its own step starts from
	xattrSize        = xattrPrefix + "size"             // bytes
	xattrAllocated   = xattrPrefix + "allocated"        // bytes from data records
	xattrProtected   = xattrPrefix + "protected"        // true or false
	xattrChain       = xattrPrefix + "chain"            // the backup files it needs, oldest first, one a line
	xattrPart        = xattrPrefix + "partition"        // of one: its number
	xattrPartOffset  = xattrPrefix + "partition.offset" // bytes
	xattrPartType    = xattrPrefix + "partition.type"   // 0x83, or a GUID
	xattrPartName    = xattrPrefix + "partition.name"   // of GPT
	xattrChainLength = xattrPrefix + "chain.length"     // how many these are, also where the list was cut
	xattrMeta        = xattrPrefix + "meta."            // and a key of the image-meta
)

// Limits, the last three of the kernel (linux/limits.h).
const (
	maxChainValue = 3 << 10
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrList  = 64 << 10
)

// attributes are names and values, in the order of their list.
type attributes []struct{ name, value string }

// snapshotAttributes are those of a snapshot's image. Keys of the image-meta that
// can't be part of a name are left out, as is what makes the list too long for
// the kernel, which would show none at all; too long values are cut.
func snapshotAttributes(snap *chain.Snapshot) attributes {
	list := attributes{
		{xattrPool, pool(snap.Image)},
		{xattrImage, snap.Image},
		{xattrSnapshot, snap.Name},
		{xattrSize, strconv.FormatInt(snap.Size, 10)},
		{xattrAllocated, strconv.FormatInt(snap.Allocated, 10)},
		{xattrProtected, strconv.FormatBool(snap.Protected)},
		{xattrChainLength, strconv.Itoa(snap.Depth)},
		{xattrChain, chainValue(snap)},
	}
	if snap.Of != "" {
		list = append(list, struct{ name, value string }{xattrOf, snap.Of})
	}
	if snap.Parent != nil {
		list = append(list, struct{ name, value string }{xattrParent, snap.Parent.Name})
	}
	length := list.length()
	for _, key := range slices.Sorted(maps.Keys(snap.Meta)) {
		name := xattrMeta + key
		if key == "" || len(name) > maxXattrName || strings.Contains(key, "\x00") {
			continue
		}
		if length += len(name) + 1; length > maxXattrList {
			break
		}
		value := snap.Meta[key]
		list = append(list, struct{ name, value string }{name, value[:min(len(value), maxXattrValue)]})
	}
	return list
}

// chainValue lists the backup files, cut after a whole line.
func chainValue(snap *chain.Snapshot) string {
	var b strings.Builder
	for _, link := range snap.Chain() {
		if b.Len()+len(link.File)+1 > maxChainValue {
			break
		}
		b.WriteString(link.File)
		b.WriteByte('\n')
	}
	return b.String()
}

func (a attributes) length() int {
	length := 0
	for _, attribute := range a {
		length += len(attribute.name) + 1
	}
	return length
}

// getxattr gets one of a node's attributes. ls -l asks each file for two that can't be
// among them; these must cost nothing.
func getxattr(of func() attributes, name string, dest []byte) (uint32, syscall.Errno) {
	if !strings.HasPrefix(name, xattrPrefix) {
		return 0, syscall.ENODATA
	}
	return of().get(name, dest)
}

// get copies a value, with the semantics of getxattr(2).
func (a attributes) get(name string, dest []byte) (uint32, syscall.Errno) {
	for _, attribute := range a {
		if attribute.name == name {
			return fit(dest, attribute.value)
		}
	}
	return 0, syscall.ENODATA
}

// list copies the names, with the semantics of listxattr(2).
func (a attributes) list(dest []byte) (uint32, syscall.Errno) {
	var b strings.Builder
	for _, attribute := range a {
		b.WriteString(attribute.name)
		b.WriteByte(0)
	}
	return fit(dest, b.String())
}

// fit copies value, or tells how long it is if dest is too short.
func fit(dest []byte, value string) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}
