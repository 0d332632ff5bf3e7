package layout

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A pattern is a regular expression for paths, and what it makes of them.
type pattern struct {
	expr            *regexp.Regexp
	image, snapshot template
}

// The names that some tools give their files, before these are compressed.
var (
	// cv4pve-barc: …/[VMID/]LABEL/YYYYMMDDhhmmssPOOL.IMAGE.diff
	barc = must(`^((?P<path>.*?)/)??(barc/)?(\d+/)?([^/]+/)?(?P<d>\d{14})(?P<pool>[^./]+)\.(?P<img>[^/]+?)\.diff$`,
		"{path}/{pool}/{img}", "barc{dir}{d}")
	// OpenNebula: …/disk.N.rbd2, and disk.N.K.rbdiff for the increments, each of
	// which may be in a folder of its own below that of the machine.
	openNebula = must(`^((?P<path>.+?)/(`+backupID+`/)?)?(?P<disk>disk\.\d+)(\.\d+)?\.(rbd2|rbdiff)$`, "{path}/{disk}", "")
)

// backupID is six hexadecimal digits, one of them a letter: the machine's folder is
// a number.
const backupID = `([a-f][0-9a-f]{5}|\d[a-f][0-9a-f]{4}|\d\d[a-f][0-9a-f]{3}|\d{3}[a-f][0-9a-f]{2}|\d{4}[a-f][0-9a-f]|\d{5}[a-f])`

// tools are the layouts that Auto knows by the files' names.
var tools = []struct {
	name    string
	pattern *pattern
}{{Barc, barc}, {OpenNebula, openNebula}}

func must(expr, image, snapshot string) *pattern {
	p, err := newPattern(expr, image, snapshot)
	if err != nil {
		panic(err)
	}
	return p
}

func newPattern(expr, image, snapshot string) (*pattern, error) {
	compiled, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("the regular expression: %w", err)
	}
	p := &pattern{expr: compiled}
	groups := append(slices.DeleteFunc(slices.Clone(compiled.SubexpNames()), func(s string) bool { return s == "" }), "dir", "base")
	if image == "" {
		return nil, errors.New("a regular expression needs the template of the image's name, as {pool}/{img}")
	}
	if p.image, err = parseTemplate(image, groups); err != nil {
		return nil, err
	}
	p.snapshot, err = parseTemplate(snapshot, groups)
	return p, err
}

func (p *pattern) matches(name string) bool { return p.expr.MatchString(name) }

// apply returns what the templates make of a path; ok is false if the expression
// doesn't match, or leaves nothing of the image's name.
func (p *pattern) apply(name string) (image, snapshot string, ok bool) {
	found := p.expr.FindStringSubmatch(name)
	if found == nil {
		return "", "", false
	}
	values := map[string]string{"dir": path.Base(path.Dir(name)), "base": path.Base(name)}
	for i, group := range p.expr.SubexpNames() {
		if group != "" && found[i] != "" {
			values[group] = found[i]
		}
	}
	image = strings.Trim(path.Clean("/"+p.image.fill(values)), "/")
	return image, p.snapshot.fill(values), image != ""
}

// A template is text with names in braces: at odd places.
type template []string

func parseTemplate(text string, groups []string) (template, error) {
	var t template
	for {
		before, rest, found := strings.Cut(text, "{")
		t = append(t, before)
		if !found {
			return t, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("the template %q has a { without its }", text)
		}
		if !slices.Contains(groups, name) {
			return nil, fmt.Errorf("the template has {%s}, and there are only {%s}", name, strings.Join(groups, "}, {"))
		}
		t = append(t, name)
		text = after
	}
}

func (t template) fill(values map[string]string) string {
	var b strings.Builder
	for i, part := range t {
		if i%2 == 1 {
			part = values[part]
		}
		b.WriteString(part)
	}
	return b.String()
}
