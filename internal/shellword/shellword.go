// Package shellword writes names so that a command with them can be typed as printed.
package shellword

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// plain are the characters that no shell reads as anything else.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:@%+"

// Word makes a word that a shell reads as name. It is one line.
func Word(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return !strconv.IsPrint(r) || r == utf8.RuneError }) >= 0 {
		return escaped(name)
	}
	if name != "" && strings.Trim(name, plain) == "" {
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
