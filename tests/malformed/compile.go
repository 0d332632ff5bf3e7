// Package malformed holds broken, cut off and contradictory backup files, and
// what has to be said about each of them. The files are written down in
// cases.txt, record by record, and made from that; what the real rbd 16.2.15
// does with each was observed and stands beside it.
//
// A case is a folder of a repository:
//
//	case z-overflow
//	rbd: refuses it, 22
//	file bad.diff: diff1 t "s2" s 1M z 18446744073709547520~8192 e
//	problem: corrupt bad.diff 28
//
// A file is a list of records. In an `image2` each gets the length that it has;
// `len=N` before it writes another one.
//
//	diff1 diff2 image2 diffs N      banners; the last with the number of diffs
//	f NAME  t NAME                  names are quoted; "n"*4097 repeats
//	s N  p N  O N  T N  U N  C N    numbers may end in K, M or G
//	w OFF~LEN  w OFF~LEN:HAVE       data of LEN bytes, of which HAVE are there
//	z OFF~LEN
//	M KEY VALUE
//	e  E
//	raw TEXT  unknown TAG TEXT      TEXT is quoted
//	cut N                           leaves the first N bytes of all before it
package malformed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Compile makes the bytes of a file.
func Compile(text string) ([]byte, error) {
	c := &compiler{rest: text}
	for c.err == nil {
		word := c.word()
		if word == "" {
			break
		}
		c.record(word)
	}
	return c.out, c.err
}

type compiler struct {
	rest   string
	out    []byte
	v2     bool
	length uint64 // of the next record, when lying
	lying  bool
	err    error
}

// word takes the next word; a quoted one keeps its quotes and may hold spaces.
func (c *compiler) word() string {
	c.rest = strings.TrimLeft(c.rest, " ")
	end := strings.IndexByte(c.rest, ' ')
	if strings.HasPrefix(c.rest, `"`) {
		quoted, err := strconv.QuotedPrefix(c.rest)
		if err != nil {
			c.err = err
			return ""
		}
		end = len(quoted) + strings.IndexByte(c.rest[len(quoted):]+" ", ' ')
	}
	if end < 0 {
		end = len(c.rest)
	}
	word := c.rest[:end]
	c.rest = c.rest[end:]
	return word
}

func (c *compiler) record(word string) {
	switch word {
	case "diff1":
		c.out, c.v2 = append(c.out, "rbd diff v1\n"...), false
	case "diff2":
		c.out, c.v2 = append(c.out, "rbd diff v2\n"...), true
	case "image2":
		c.out, c.v2 = append(c.out, "rbd image v2\n"...), true
	case "diffs":
		c.out = binary.LittleEndian.AppendUint64(append(c.out, "rbd image diffs v2\n"...), c.number(c.word()))
	case "e", "E":
		c.out = append(c.out, word...)
	case "raw":
		c.out = append(c.out, c.text()...)
	case "cut":
		c.cut(c.number(c.word()))
	default:
		if lie, ok := strings.CutPrefix(word, "len="); ok {
			c.length, c.lying = c.number(lie), true
			return
		}
		c.tagged(word)
	}
}

// tagged writes the records that have a tag and, in version 2, a length.
func (c *compiler) tagged(word string) {
	var payload []byte
	length := uint64(0)
	switch word {
	case "f", "t":
		name := c.text()
		payload = append(binary.LittleEndian.AppendUint32(nil, uint32(len(name))), name...)
	case "s", "O", "T", "U", "C":
		payload = binary.LittleEndian.AppendUint64(nil, c.number(c.word()))
	case "p":
		// Real exports give a length of 8 for this one byte.
		payload, length = []byte{byte(c.number(c.word()))}, 8
	case "w", "z":
		payload, length = c.extent(word)
	case "M":
		key, value := c.text(), c.text()
		payload = append(binary.LittleEndian.AppendUint32(nil, uint32(len(key))), key...)
		payload = append(binary.LittleEndian.AppendUint32(payload, uint32(len(value))), value...)
	case "unknown":
		word = c.text()
		payload = []byte(c.text())
	default:
		c.err = errors.Join(c.err, fmt.Errorf("no record %q", word))
	}
	c.out = append(c.out, word...)
	if length == 0 {
		length = uint64(len(payload))
	}
	if c.lying {
		length, c.lying = c.length, false
	}
	if c.v2 {
		c.out = binary.LittleEndian.AppendUint64(c.out, length)
	}
	c.out = append(c.out, payload...)
}

func (c *compiler) extent(tag string) (payload []byte, length uint64) {
	span, have, short := strings.Cut(c.word(), ":")
	off, n, ok := strings.Cut(span, "~")
	if !ok {
		c.err = fmt.Errorf("want OFF~LEN, got %q", span)
	}
	bytes := c.number(n)
	payload = binary.LittleEndian.AppendUint64(nil, c.number(off))
	payload = binary.LittleEndian.AppendUint64(payload, bytes)
	if tag == "z" {
		return payload, 16
	}
	length = 16 + bytes
	if short {
		bytes = c.number(have)
	}
	if c.err == nil {
		payload = append(payload, strings.Repeat("W", int(bytes))...)
	}
	return payload, length
}

func (c *compiler) cut(n uint64) {
	if n > uint64(len(c.out)) {
		c.err = fmt.Errorf("cut at %d of %d", n, len(c.out))
		return
	}
	c.out = c.out[:n]
}

func (c *compiler) number(word string) uint64 {
	shift := 0
	switch {
	case strings.HasSuffix(word, "K"):
		shift = 10
	case strings.HasSuffix(word, "M"):
		shift = 20
	case strings.HasSuffix(word, "G"):
		shift = 30
	}
	n, err := strconv.ParseUint(strings.TrimRight(word, "KMG"), 10, 64)
	c.err = errors.Join(c.err, err)
	return n << shift
}

// text takes a quoted word, perhaps repeated.
func (c *compiler) text() string {
	word := c.word()
	quoted, err := strconv.QuotedPrefix(word)
	if err != nil {
		c.err = errors.Join(c.err, fmt.Errorf("want a quoted text, got %q", word))
		return ""
	}
	text, err := strconv.Unquote(quoted)
	c.err = errors.Join(c.err, err)
	if times, ok := strings.CutPrefix(word[len(quoted):], "*"); ok {
		text = strings.Repeat(text, int(c.number(times)))
	}
	return text
}
