// Package model rebuilds images from backup files in the plainest way: an image
// is one []byte, and a diff is applied to it record by record. It is a second
// oracle beside `rbd export`, made from the format alone; it shares no code with
// the packages that it checks and must stay that way.
//
// The rules, which agree with what real rbd does: start from the parent's bytes;
// `s` truncates, or extends with zeros; then `w` and `z` in file order, the last
// one wins.
//
// It holds whole images in memory and trusts its input: no tool for users.
package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The banners of the formats.
const (
	BannerDiff1     = "rbd diff v1\n"
	BannerDiff2     = "rbd diff v2\n"
	BannerContainer = "rbd image v2\n"
	bannerDiffs     = "rbd image diffs v2\n"
)

// errShort is returned for a file that ends before its end record.
var errShort = errors.New("ends early")

// A State is an image at one moment.
type State struct {
	Bytes []byte
	// Data is what data records wrote and nothing zeroed or cut since, sorted,
	// joined where they touch.
	Data []Range
	// Raw is true where a raw export is part of it. Its holes depend on the file
	// system that it lies on, so that Data is only an upper bound.
	Raw bool
	// Ways is in how many ways the snapshot can be reached. The bytes are the same
	// on each of them; Data is that of one.
	Ways int
}

// A step leads from a snapshot to another, or from nothing when there is no from.
type step struct {
	file     string
	from, to string
	full     bool
	raw      bool
	records  []record
}

// A record is a size (tag 's'), data ('w') or zeros ('z').
type record struct {
	tag     byte
	off, n  int64
	payload []byte
}

// Load reads every file in the folder of one image and returns the states of
// all snapshots that they lead to. It is an error when a file leads nowhere or
// two ways to one snapshot give different bytes.
func Load(dir string) (map[string]*State, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return LoadFiles(files...)
}

// LoadFiles is Load for just these files.
func LoadFiles(files ...string) (map[string]*State, error) {
	var steps []step
	for _, file := range files {
		more, err := parseFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		steps = append(steps, more...)
	}
	return assemble(steps)
}

// LoadPart returns the states that the whole diffs at the beginning of a broken
// export lead to.
func LoadPart(file string) (map[string]*State, error) {
	steps, _ := parseFile(file)
	return assemble(steps)
}

// assemble applies every step as soon as the state that it starts from is there.
func assemble(steps []step) (map[string]*State, error) {
	states := make(map[string]*State)
	for len(steps) > 0 {
		i := slices.IndexFunc(steps, func(s step) bool { return s.full || states[s.from] != nil })
		if i < 0 {
			return nil, fmt.Errorf("%s: no file ends at %q", steps[0].file, steps[0].from)
		}
		s := steps[i]
		steps = slices.Delete(steps, i, i+1)
		state := apply(states[s.from], s)
		if known := states[s.to]; known != nil && !bytes.Equal(known.Bytes, state.Bytes) {
			return nil, fmt.Errorf("%s: gives %q other bytes than another file does", s.file, s.to)
		}
		if states[s.to] == nil {
			states[s.to] = state
		}
		states[s.to].Ways++
	}
	return states, nil
}

// apply returns the state after the step; parent stays as it is.
func apply(parent *State, s step) *State {
	state := &State{Raw: s.raw}
	if !s.full {
		state.Bytes = slices.Clone(parent.Bytes)
		state.Data = parent.Data
		state.Raw = parent.Raw || s.raw
	}
	for _, r := range s.records {
		at := Range{r.off, r.off + r.n}
		switch r.tag {
		case 's':
			state.resize(r.n)
		case 'w':
			if at.End > int64(len(state.Bytes)) {
				state.resize(at.End) // the size is still to come
			}
			copy(state.Bytes[at.Start:at.End], r.payload)
			state.Data = add(state.Data, at)
		case 'z':
			clear(state.Bytes[at.Start:at.End])
			state.Data = cut(state.Data, at)
		}
	}
	return state
}

func (s *State) resize(size int64) {
	if old := int64(len(s.Bytes)); size < old {
		s.Bytes = slices.Clip(s.Bytes[:size])
		s.Data = cut(s.Data, Range{size, old})
		return
	}
	s.Bytes = append(s.Bytes, make([]byte, size-int64(len(s.Bytes)))...)
}

func parseFile(path string) ([]step, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	p := &parser{data: data, file: path}
	switch {
	case bytes.HasPrefix(data, []byte(BannerDiff1)):
		s, err := p.diff(BannerDiff1, base)
		if err != nil {
			return nil, err
		}
		return []step{s}, nil
	case bytes.HasPrefix(data, []byte(BannerContainer)):
		return p.container(base)
	}
	size := record{tag: 's', n: int64(len(data))}
	all := record{tag: 'w', n: int64(len(data)), payload: data}
	return []step{{file: path, to: base, full: true, raw: true, records: []record{size, all}}}, nil
}

// parser walks a file; it stops at the first error and keeps it.
type parser struct {
	data []byte
	file string
	err  error
}

func (p *parser) take(n int64) []byte {
	if p.err != nil || n < 0 || n > int64(len(p.data)) {
		p.err = errShort
		return nil
	}
	b := p.data[:n]
	p.data = p.data[n:]
	return b
}

func (p *parser) u8() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) u64() int64 {
	if b := p.take(8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

func (p *parser) name() string {
	if b := p.take(4); b != nil {
		return string(p.take(int64(binary.LittleEndian.Uint32(b))))
	}
	return ""
}

func (p *parser) banner(want string) {
	if got := p.take(int64(len(want))); p.err == nil && string(got) != want {
		p.err = fmt.Errorf("has %q in place of %q", got, want)
	}
}

// diff reads one diff. One without `t` leads to a snapshot of the given name.
func (p *parser) diff(banner, head string) (step, error) {
	s := step{file: p.file, to: head, full: true}
	p.banner(banner)
	for p.err == nil {
		tag := p.u8()
		if tag == 'e' {
			return s, p.err
		}
		length := int64(-1)
		if banner == BannerDiff2 {
			length = p.u64()
		}
		switch tag {
		case 'f':
			s.from, s.full = p.name(), false
		case 't':
			s.to = p.name()
		case 's':
			s.records = append(s.records, record{tag: tag, n: p.u64()})
		case 'p':
			p.u8() // one byte, whatever the length says
		case 'w', 'z':
			r := record{tag: tag, off: p.u64(), n: p.u64()}
			if tag == 'w' {
				r.payload = p.take(r.n)
			}
			s.records = append(s.records, r)
		default:
			if length < 0 {
				p.err = fmt.Errorf("has a record %q", tag)
			}
			p.take(length)
		}
	}
	return s, p.err
}

func (p *parser) container(head string) ([]step, error) {
	p.banner(BannerContainer)
	for p.err == nil && p.u8() != 'E' {
		p.take(p.u64())
	}
	p.banner(bannerDiffs)
	var steps []step
	for count := p.u64(); count > 0 && p.err == nil; count-- {
		s, err := p.diff(BannerDiff2, head)
		if err != nil {
			break
		}
		steps = append(steps, s)
	}
	return steps, p.err
}
