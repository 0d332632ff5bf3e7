package chain

import (
	"fmt"
	"strings"
)

// sector is what the size of a disk is a multiple of, bytes.
const sector = 512

// shown is what messages call a file: as the user typed it, or its path below the
// repository.
func (l *Library) shown(name string) string {
	if typed, ok := l.given[name]; ok {
		return typed
	}
	return name
}

// takeGiven takes a file without a banner, which the user named, for a raw export
// if it could be one; content is the size of what is in it. One that is named like
// a compressed file is corrupt instead.
func (info *fileInfo) takeGiven(content int64, shown string) {
	if info.Fault == nil || !info.Fault.maybeRaw || info.Fault.kind != KindUnsupported {
		return
	}
	if content%sector == 0 {
		info.Fault, info.Kind = nil, kindRaw
		info.Format = strings.Replace(info.Format, "unknown", "raw", 1)
		info.Steps = []stepInfo{{HasSize: true, Size: content, Bytes: content}}
		return
	}
	info.Fault = &fault{
		kind: KindUnsupported, offset: -1, maybeRaw: true,
		reason: fmt.Sprintf("has no banner of an rbd export, and its %d bytes aren't whole sectors, as a raw export's are", content),
		cure:   fmt.Sprintf("If it is one all the same, use --link %s=SNAPSHOT; if it was cut off, make the export again", shellWord(shown)),
	}
}

// onlyNameless returns the one file of those the user named that --link could make
// end at a snapshot; "" where there are more, or none.
func (p *planner) onlyNameless(snapshot string) (only string) {
	for _, f := range p.files {
		if f.typed == "" || f.link != "" || !p.couldEnd(f, snapshot) {
			continue
		}
		if only != "" {
			return ""
		}
		only = f.typed
	}
	return only
}
