package chain

import (
	"fmt"
	"strings"
)

// files names the files of some steps.
func files(steps []*step) string {
	names := make([]string, 0, 3)
	for i, s := range steps {
		if i == 2 && len(steps) > 3 {
			names = append(names, fmt.Sprintf("and %d more", len(steps)-2))
			break
		}
		names = append(names, quoted(s.file.shown()))
	}
	return strings.Join(names, ", ")
}

// quoted shows a snapshot's name, with quotes where it isn't plain.
func quoted(name string) string {
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == '"' || r > '~' }) < 0 {
		return name
	}
	return fmt.Sprintf("%q", name)
}
