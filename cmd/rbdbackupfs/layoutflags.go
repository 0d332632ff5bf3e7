package main

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/layout"
)

// layoutFlags say which image and snapshot a backup file is. layoutfile.go has the
// same in a file.
type layoutFlags struct {
	config     layout.Config
	links      []string
	trustNames bool
	layoutFile string

	set *pflag.FlagSet // that they belong to; nil for none
}

func (f *layoutFlags) addLayout(flags *pflag.FlagSet) {
	f.set = flags
	flags.StringVar(&f.config.Layout, "layout", "", "`how` backup files are named: "+strings.Join(layout.Names, ", ")+" (default auto)")
	flags.StringVar(&f.config.Pattern, "layout-regex", "", "regular `expression` with named groups for the paths of files below REPO,\ninstead of --layout; files that it doesn't match are left out")
	flags.StringVar(&f.config.Image, "layout-image", "", "`template` of an image's name, with groups of --layout-regex: {pool}/{img}")
	flags.StringVar(&f.config.Snapshot, "layout-snap", "", "the same `template` for a snapshot, where a file doesn't say it itself")
	flags.StringArrayVar(&f.links, "link", nil, "what a backup `file` is, where it doesn't say it itself or has to be chosen,\nas "+linkForm+" (path below REPO); may be given several times")
	flags.BoolVar(&f.trustNames, "trust-names", false, "also follow links that are suspicious: snapshots whose names may have been\nused twice")
	flags.StringVar(&f.layoutFile, "layout-file", "", "`file` in TOML that says what --layout and the like, --link and --trust-names\ndo (default "+layoutFileName+" in the index's folder)")
}

// linkForm is what --link takes.
const linkForm = "FILE=[IMAGE@]SNAPSHOT"

// completeLayout offers the layouts.
func completeLayout(c *cobra.Command) {
	offers := []string{
		"auto\tfrom what is known of the files and their names",
		"plain\ta folder for each image",
		"barc\tas cv4pve-barc does",
		"opennebula\tas OpenNebula does",
	}
	if err := c.RegisterFlagCompletionFunc("layout", cobra.FixedCompletions(offers, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the command has no such flag
	}
}

// given lists those that the command line has.
func (f *layoutFlags) given() (names []string) {
	for _, name := range []string{"layout", "layout-regex", "layout-image", "layout-snap", "link", "trust-names", "layout-file"} {
		if f.set != nil && f.set.Changed(name) {
			names = append(names, "--"+name)
		}
	}
	return names
}

// linkMap splits the --link flags at the last '='.
func (f *layoutFlags) linkMap() (map[string]string, error) {
	links := make(map[string]string)
	for _, link := range f.links {
		at := strings.LastIndexByte(link, '=')
		if at < 1 || at == len(link)-1 {
			return nil, usagef("--link %q is not %s", link, linkForm)
		}
		links[linkKey(link[:at])] = link[at+1:]
	}
	return links, nil
}

func linkKey(file string) string { return filepath.ToSlash(filepath.Clean(file)) }

// checkLayout tells of what is wrong in the flags themselves.
func (f *layoutFlags) checkLayout() error {
	if _, err := f.linkMap(); err != nil {
		return err
	}
	err := flagWords.check(f.config)
	if err != nil {
		err = usagef("%v", err)
	}
	return err
}

// layoutWords are what the parts of a layout are called where the user said them.
type layoutWords struct{ layout, pattern, image, snapshot string }

var flagWords = layoutWords{"--layout", "--layout-regex", "--layout-image", "--layout-snap"}

// check tells of what is wrong in a layout.
func (w layoutWords) check(c layout.Config) error {
	switch {
	case c.Pattern == "" && c.Image != "":
		return fmt.Errorf("%s is for %s, and there is none", w.image, w.pattern)
	case c.Pattern == "" && c.Snapshot != "":
		return fmt.Errorf("%s is for %s, and there is none", w.snapshot, w.pattern)
	case c.Pattern == "" && c.Layout == layout.Regex:
		return fmt.Errorf("%s %s needs %s", w.layout, c.Layout, w.pattern)
	case c.Pattern != "" && c.Layout != "" && c.Layout != layout.Regex:
		return fmt.Errorf("%s %s and %s don't go together", w.layout, c.Layout, w.pattern)
	case c.Pattern != "" && c.Image == "":
		return fmt.Errorf("%s needs %s, the template of the image's name, such as {pool}/{img}", w.pattern, w.image)
	}
	_, err := layout.New(c)
	return err
}

// A layoutChoice is what the flags and the file say together.
type layoutChoice struct {
	layout.Config
	Links      map[string]string // as chain.Options has them
	TrustNames bool
	From       string // the flag or the file that has the layout; "" for the default
	File       string // that was read; "" for none
}

// choose reads the file and has the flags win: the layout as a whole, and of links
// each file. index is the folder of the index, root that of the repository.
func (f *layoutFlags) choose(index, root string) (c layoutChoice, err error) {
	file, path, err := f.readFile(index)
	if err != nil {
		return c, err
	}
	links, err := f.linkMap()
	if err != nil {
		return c, err
	}
	c = layoutChoice{Config: f.config, TrustNames: f.trustNames, File: path, Links: maps.Clone(file.Links)}
	switch {
	case f.config.Pattern != "":
		c.From = flagWords.pattern
	case f.config.Layout != "":
		c.From = flagWords.layout
	default:
		if c.Config = file.config(); c.Layout != "" || c.Pattern != "" {
			c.From = path
		}
	}
	if f.set == nil || !f.set.Changed("trust-names") {
		c.TrustNames = file.TrustNames
	}
	for name := range links {
		maps.DeleteFunc(c.Links, func(other, _ string) bool {
			return other == name || filepath.Base(other) == name || filepath.Join(root, other) == name
		})
	}
	if c.Links == nil {
		c.Links = links
	}
	maps.Copy(c.Links, links)
	return c, nil
}

// flagList is a list for a sentence: --link, --layout and --trust-names.
func flagList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// A layoutReport is the layout in status.json and "layout --json": what was chosen,
// and what came of it.
type layoutReport struct {
	Layout string         `json:"layout"`
	From   string         `json:"from"` // the flag or the file that has it; "default"
	Rules  map[string]int `json:"rules"`
	Left   int            `json:"left_out"`

	Pattern    string            `json:"regex,omitempty"`
	Image      string            `json:"image,omitempty"`
	Snapshot   string            `json:"snapshot,omitempty"`
	Links      map[string]string `json:"links,omitempty"`
	TrustNames bool              `json:"trust_names,omitempty"`
	File       string            `json:"file,omitempty"` // that was read
}

// choice is what gives the same again.
func (r layoutReport) choice() layoutChoice {
	c := layoutChoice{
		Config: layout.Config{Layout: r.Layout, Pattern: r.Pattern, Image: r.Image, Snapshot: r.Snapshot},
		Links:  r.Links, TrustNames: r.TrustNames, From: r.From, File: r.File,
	}
	if c.From == layoutDefault {
		c.From = ""
	}
	return c
}

func newLayoutReport(c layoutChoice, now chain.LayoutStatus) layoutReport {
	return layoutReport{
		Layout: now.Layout, From: cmp.Or(c.From, layoutDefault), Rules: now.Rules, Left: now.Left,
		Pattern: c.Pattern, Image: c.Image, Snapshot: c.Snapshot, Links: c.Links, TrustNames: c.TrustNames, File: c.File,
	}
}

const layoutDefault = "default"

// ruleWords say how files were placed.
var ruleWords = map[string]string{
	layout.Auto:       "by folder and name",
	layout.Plain:      "by folder",
	layout.Barc:       "as barc",
	layout.OpenNebula: "as opennebula",
	layout.Regex:      "by the regular expression",
	"link":            "by link",
}

// counts is what came of a layout: 12 files by folder and name, 40 as barc.
func (r layoutReport) counts() string {
	parts := []string{"no files"}
	rules := slices.SortedFunc(maps.Keys(r.Rules), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Rules[b], r.Rules[a]), cmp.Compare(a, b))
	})
	for i, rule := range rules {
		if i == 0 {
			parts[0] = count(r.Rules[rule], "file") + " " + ruleWords[rule]
			continue
		}
		parts = append(parts, fmt.Sprintf("%d %s", r.Rules[rule], ruleWords[rule]))
	}
	if r.Left > 0 {
		parts = append(parts, fmt.Sprintf("%d left out", r.Left))
	}
	return strings.Join(parts, ", ")
}

// String is a layout and what came of it on one line.
func (r layoutReport) String() string { return r.name() + ", " + r.counts() }

// name is the layout, and the file that chose it.
func (r layoutReport) name() string {
	if r.From != "" && r.From == r.File {
		return fmt.Sprintf("%s (%s)", r.Layout, r.File)
	}
	return r.Layout
}
