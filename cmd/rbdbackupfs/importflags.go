package main

import (
	"strings"

	"github.com/spf13/pflag"

	"rbdbackupfs/ceph"
)

// importFlags are the flags of "mount" that have to do with import/.
type importFlags struct {
	target   string
	force    bool
	uid, gid uint32
	features string
}

// onlyWithImport are the flags that mean nothing without --import.
func onlyWithImport() []string {
	return []string{"force-import", "import-uid", "import-gid", "image-features"}
}

func (f *importFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.target, "import", "", "`target` that files written into MOUNTPOINT/import are restored to:\n"+importForms)
	flags.BoolVar(&f.force, "force-import", false, "apply diffs also to images that aren't what the diff starts from")
	flags.Uint32Var(&f.uid, "import-uid", 0, "`number` of the user who may write into import/ (default: --uid)")
	flags.Uint32Var(&f.gid, "import-gid", 0, "`number` of the group that may as well (default: none)")
	addFeatures(flags, &f.features)
}

func addFeatures(flags *pflag.FlagSet, features *string) {
	flags.StringVar(features, "image-features", "", "`list` of rbd features of new images, separated by commas (default: as\nthe export says, else layering, exclusive-lock, object-map, fast-diff,\ndeep-flatten; \"layering\" alone suits old kernel clients)")
}

// check parses the flags; where is nil without --import.
func (f *importFlags) check(flags *pflag.FlagSet) (where *targetURL, features []string, err error) {
	if !flags.Changed("import") {
		for _, name := range onlyWithImport() {
			if flags.Changed(name) {
				return nil, nil, usagef("--%s needs --import %s", name, importForms)
			}
		}
		return nil, nil, nil
	}
	parsed, err := parseTarget(f.target)
	if err == nil && parsed.kind == kindFile {
		err = usagef("--import %q is no target; say %s", f.target, importForms)
	}
	if err != nil {
		return nil, nil, err
	}
	features, err = parseFeatures(f.features)
	return &parsed, features, err
}

// parseFeatures splits a list of features; nil for an empty one.
func parseFeatures(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	features := strings.Split(list, ",")
	for i := range features {
		features[i] = strings.TrimSpace(features[i])
	}
	if err := ceph.CheckFeatures(features); err != nil {
		return nil, usagef("--image-features %q: %v", list, err)
	}
	return features, nil
}
