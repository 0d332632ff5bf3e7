package chain

import (
	"fmt"
	"path"
	"strings"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/shellword"
)

// sector is what the size of a disk is a multiple of, bytes.
const sector = 512

// A rawRule says which files without a banner are raw exports.
type rawRule string

const (
	rawByName rawRule = "name"  // those named *.raw or *.img
	rawAny    rawRule = "any"   // all of whole sectors but side-cars
	rawGiven  rawRule = "given" // all of whole sectors: the user named the file
	rawLinked rawRule = "link"  // this one: --link says so
)

// rawRule is the rule for a file, with mu held.
func (l *Library) rawRule(name string) rawRule {
	switch {
	case l.linkOf(name) != link{}:
		return rawLinked
	case l.given != nil:
		return rawGiven
	case l.layout.Guesses():
		return rawAny
	}
	return rawByName
}

// scanRaw takes a file without a banner for a raw export if its name says so,
// the user, or nothing against it.
func (info *fileInfo) scanRaw(name, where string, size int64, rule rawRule) {
	info.Raw = rule
	info.Fault = info.rawFault(name, where, size, rule)
	if info.Fault != nil {
		info.Format = "unknown"
		return
	}
	info.Format, info.Kind = "raw", kindRaw
	info.Steps = []stepInfo{{HasSize: true, Size: size, Bytes: size}}
}

// rawFault is why a file can't be a raw export, nil if it can.
func (info *fileInfo) rawFault(name, where string, size int64, rule rawRule) *fault {
	isPacked, inner := info.Packed != nil, path.Base(name)
	if isPacked {
		inner = layout.Unpacked(inner)
	}
	// Of nothing a pipe makes a packed file too, when the export fails.
	if (isRawName(inner) || rule == rawLinked) && (size > 0 || !isPacked) {
		return nil
	}
	whole := size > 0 && size%sector == 0
	switch {
	case layout.NamedPacked(name) && !isPacked:
		return &fault{
			kind: KindCorrupt, reason: "is named like a compressed file, and doesn't begin like one that can be read", offset: 0, maybeRaw: true,
			cure: unpackCure(where),
		}
	case rule == rawGiven && whole:
		return nil
	case isSideCar(inner):
		return &fault{
			kind: KindUnsupported, reason: "is not a backup", offset: -1, maybeRaw: true, sideCar: true,
			cure: "Nothing is lost: it is left alone",
		}
	case size == 0:
		return &fault{
			kind: KindIncomplete, reason: "is empty",
			cure: "The export was cut off before its first byte: make it again, or remove the file",
		}
	case rule == rawAny && whole:
		return nil
	case rule == rawByName:
		return &fault{
			kind: KindUnsupported, reason: "has no banner of an rbd export", offset: 0, maybeRaw: true,
			cure: fmt.Sprintf("If it is a raw export, name it *.raw or *.img, or use --link %s=SNAPSHOT; else move it out of the repository", shellword.Word(name)),
		}
	}
	return &fault{
		kind: KindUnsupported, offset: -1, maybeRaw: true,
		reason: fmt.Sprintf("has no banner of an rbd export, and its %d bytes aren't whole sectors, as a raw export's are", size),
		cure:   fmt.Sprintf("If it is one all the same, use --link %s=SNAPSHOT; if it was cut off, make the export again", shellword.Word(name)),
	}
}

// unpackCure says how to unpack what no library here can, by the file's name. None of
// the commands writes over a file that is there, or removes this one.
func unpackCure(where string) string {
	command := map[string]string{
		".zz": "pigz -dk FILE", ".lzma": "xz -dk --format=lzma FILE", ".lz": "lzip -dk FILE", ".lzo": "lzop -d FILE", ".z": "gzip -dk FILE",
		".7z": "7z x -aos -oDIR FILE", ".zip": "unzip -n FILE -d DIR", ".br": "brotli -dk FILE", ".rar": "unrar x -o- FILE DIR/",
	}[strings.ToLower(path.Ext(where))]
	if command == "" {
		return "Unpack it, copy it again, or make the export again"
	}
	return "Unpack it, and then move it out of the repository: " +
		strings.NewReplacer("FILE", shellword.Word(where), "DIR", shellword.Word(path.Dir(where))).Replace(command)
}

// isRawName tells whether a file without a banner is a raw export by its name.
func isRawName(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".raw" || ext == ".img"
}
