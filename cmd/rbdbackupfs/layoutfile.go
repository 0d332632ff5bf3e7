package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"rbdbackupfs/internal/layout"
)

// layoutFileName is the file's name in the folder of the index.
const layoutFileName = "layout.toml"

// layoutFileMost is more than anybody writes, bytes.
const layoutFileMost = 16 << 20

// A layoutTOML is the file that says what --layout and the like do.
type layoutTOML struct {
	Layout     string `toml:"layout"`
	TrustNames bool   `toml:"trust-names"`
	Regex      struct {
		Pattern  string `toml:"pattern"`
		Image    string `toml:"image"`
		Snapshot string `toml:"snapshot"`
	} `toml:"regex"`
	Links map[string]string `toml:"links"`
}

// layoutKeys are all that there are, for who writes another one.
const layoutKeys = `layout, trust-names, and pattern, image and snapshot in [regex]; in [links] each line is "FILE" = "[IMAGE@]SNAPSHOT"`

var fileWords = layoutWords{"layout", "pattern in [regex]", "image in [regex]", "snapshot in [regex]"}

func (t layoutTOML) config() layout.Config {
	return layout.Config{Layout: t.Layout, Pattern: t.Regex.Pattern, Image: t.Regex.Image, Snapshot: t.Regex.Snapshot}
}

// layoutPath is where the file is, "" for nowhere; needed says that it must be there.
func (f *layoutFlags) layoutPath(index string) (path string, needed bool, err error) {
	switch {
	case f.layoutFile != "":
		path, err = resolvePath(f.layoutFile)
		return path, true, err
	case index == memoryIndex:
		return "", false, nil
	}
	return filepath.Join(index, layoutFileName), false, nil
}

// readFile reads the file, if there is one. path is empty where there is none.
func (f *layoutFlags) readFile(index string) (t layoutTOML, path string, err error) {
	path, needed, err := f.layoutPath(index)
	if err != nil || path == "" {
		return t, "", err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !needed {
		return t, "", nil
	}
	if err == nil && info.Size() > layoutFileMost {
		err = fmt.Errorf("%s has %d bytes: it is no list of layouts and links", path, info.Size())
	}
	if err != nil {
		return t, "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return t, "", err
	}
	t, err = parseLayout(text)
	if err != nil {
		return t, "", fmt.Errorf("%s%w", path, err)
	}
	return t, path, nil
}

// parseLayout reads the text of a file. Errors begin with ":LINE: ", or ": ".
func parseLayout(text []byte) (t layoutTOML, err error) {
	err = toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&t)
	if err != nil {
		return t, explainTOML(err)
	}
	if err := fileWords.check(t.config()); err != nil {
		return t, fmt.Errorf(": %w", err)
	}
	links := make(map[string]string, len(t.Links))
	for file, say := range t.Links {
		if file == "" || say == "" {
			return t, fmt.Errorf(": %q = %q in [links] is not \"FILE\" = \"[IMAGE@]SNAPSHOT\"", file, say)
		}
		links[linkKey(file)] = say
	}
	t.Links = links
	return t, nil
}

// explainTOML says what is wrong in which line.
func explainTOML(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := unknown.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf(":%d: there is no key %s; there are %s", line, strings.Join(first.Key(), "."), layoutKeys)
	}
	var bad *toml.DecodeError
	if !errors.As(err, &bad) {
		return fmt.Errorf(": %w", err)
	}
	line, _ := bad.Position()
	key := bad.Key()
	what := strings.TrimPrefix(bad.Error(), "toml: ")
	switch {
	case len(key) > 1 && key[0] == "links":
		what = `a file and what it is stand in quotes: "FILE" = "[IMAGE@]SNAPSHOT"`
	case len(key) > 0 && strings.HasPrefix(what, "cannot "):
		// It speaks of the types of this program.
		what = fmt.Sprintf("%s has a value of another kind; there are %s", strings.Join(key, "."), layoutKeys)
	case strings.HasPrefix(what, "expected '=' after key"):
		what += `; a name with anything but letters, digits, - and _ stands in quotes`
	}
	return fmt.Errorf(":%d: %s", line, what)
}
