package main

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"rbdbackupfs/ceph"
	"rbdbackupfs/internal/target"
)

// The forms of a target on the command line, for messages.
const (
	importForms  = "ceph:[?conf=PATH&user=NAME&cluster=NAME] or file:DIR"
	restoreForms = "ceph:POOL/[NAMESPACE/]IMAGE[?conf=PATH&user=NAME&cluster=NAME], file:PATH or - (stdout)"
)

// The kinds of targets, as their URLs begin.
const (
	kindCeph   = "ceph"
	kindFolder = "file"
	kindFile   = "path" // one raw file, only in the journal
	kindStdout = "-"
)

// A targetURL says where images are restored to.
type targetURL struct {
	kind string
	path string // of a folder or a file, absolute
	ceph ceph.Config
}

// parseTarget parses the target of many images: --import, and what a target's
// own String says, which the journal keeps.
func parseTarget(text string) (targetURL, error) {
	kind, rest, found := strings.Cut(text, ":")
	switch {
	case !found:
	case kind == kindCeph && (rest == "" || rest[0] == '?'):
		config, err := parseCephQuery(text, strings.TrimPrefix(rest, "?"))
		return targetURL{kind: kindCeph, ceph: config}, err
	case kind == kindCeph:
		return targetURL{}, usagef("%q names an image or a pool: the folders below import/ do that; say ceph: or ceph:?conf=PATH", text)
	case kind == kindFolder && rest == "":
		return targetURL{}, usagef("%q has no folder; say file:DIR", text)
	case kind == kindFolder, kind == kindFile && rest != "":
		path, err := filepath.Abs(rest)
		return targetURL{kind: kind, path: path}, err
	}
	return targetURL{}, usagef("%q is no target; say %s", text, importForms)
}

// parseDestination parses the target of one image. The name is that of an image in
// a cluster, and empty otherwise.
func parseDestination(text string) (targetURL, target.Name, error) {
	if text == kindStdout {
		return targetURL{kind: kindStdout}, target.Name{}, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case kindCeph:
		where, query, _ := strings.Cut(rest, "?")
		name, err := target.ParseName(where)
		if err == nil {
			err = name.Check()
		}
		if err != nil {
			return targetURL{}, name, usagef("%q: %v; say ceph:POOL/IMAGE or ceph:POOL/NAMESPACE/IMAGE", text, err)
		}
		config, err := parseCephQuery(text, query)
		return targetURL{kind: kindCeph, ceph: config}, name, err
	case kindFolder:
		if rest == "" || strings.HasSuffix(rest, "/") {
			return targetURL{}, target.Name{}, usagef("%q names no file; say file:PATH, such as file:/tmp/vm1.img", text)
		}
		path, err := filepath.Abs(rest)
		return targetURL{kind: kindFile, path: path}, target.Name{}, err
	}
	return targetURL{}, target.Name{}, usagef("%q is no target; say %s", text, restoreForms)
}

// parseCephQuery parses what stands behind the '?', encoded as in any URL.
func parseCephQuery(text, query string) (config ceph.Config, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return config, usagef("%q: %v", text, err)
	}
	fields := map[string]*string{"conf": &config.Conf, "user": &config.User, "cluster": &config.Cluster}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field := fields[key]
		value := values[key]
		switch {
		case field == nil:
			return config, usagef("%q: %q is none of %s", text, key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case len(value) > 1:
			return config, usagef("%q: there are %d of %s", text, len(value), key)
		case value[0] == "":
			return config, usagef("%q: %s is empty", text, key)
		}
		*field = value[0]
	}
	if config.Conf != "" {
		// A process in the background, or one that recovers, is in another folder.
		config.Conf, err = filepath.Abs(config.Conf)
	}
	return config, err
}

// destination is a target of one image for people.
func (u targetURL) destination(name target.Name) string {
	switch u.kind {
	case kindStdout:
		return "stdout"
	case kindCeph:
		return kindCeph + ":" + name.String()
	}
	return fmt.Sprintf("%s:%s", kindFolder, u.path)
}
