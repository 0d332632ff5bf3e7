package chain

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
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

const plainInShell = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:@%+"

// shellWord makes a word that a shell reads as name. It is one line.
func shellWord(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }) >= 0 {
		return escaped(name)
	}
	if name != "" && strings.Trim(name, plainInShell) == "" {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// escaped is the form that bash, ksh and zsh have for bytes that don't print.
func escaped(name string) string {
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(name) {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
