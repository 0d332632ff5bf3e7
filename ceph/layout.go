package ceph

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"rbdbackupfs/internal/target"
)

// Features of an image, as bits of its header. The numbers are part of the
// format, and written down here so that a binary without Ceph knows them as well.
const (
	featureLayering      = 1 << 0
	featureStriping      = 1 << 1
	featureExclusiveLock = 1 << 2
	featureObjectMap     = 1 << 3
	featureFastDiff      = 1 << 4
	featureDeepFlatten   = 1 << 5
	featureJournaling    = 1 << 6

	// featuresInternal are those that follow from something else, or say what an
	// image is being used for: data-pool, operations, migrating, non-primary,
	// dirty-cache. `rbd import` drops them without a word.
	featuresInternal = 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11
	featuresKnown    = featuresInternal | (1<<7 - 1)
)

// feature is one that a user can ask for.
type feature struct {
	name  string
	bit   uint64
	needs uint64
}

// settable are the features that a user can ask for. Striping and data-pool aren't
// among them: they follow from the layout.
func settable() []feature {
	return []feature{
		{"layering", featureLayering, 0},
		{"exclusive-lock", featureExclusiveLock, 0},
		{"object-map", featureObjectMap, featureExclusiveLock},
		{"fast-diff", featureFastDiff, featureObjectMap},
		{"deep-flatten", featureDeepFlatten, 0},
		{"journaling", featureJournaling, featureExclusiveLock},
	}
}

// defaultFeatures are those of an image when nobody says anything else, also where
// the cluster's own default differs: a restore gives the same image everywhere.
func defaultFeatures() []string {
	return []string{"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"}
}

// CheckFeatures tells whether a new image can have these features. It needs no
// cluster. The error is a *target.Error with EINVAL.
func CheckFeatures(names []string) error {
	_, err := namedFeatures(names)
	return err
}

func namedFeatures(names []string) (uint64, error) {
	refuse := func(err error, hint string) (uint64, error) {
		return 0, &target.Error{Op: "image features", Errno: syscall.EINVAL, Err: err, Hint: hint}
	}
	all := settable()
	var mask uint64
	for _, name := range names {
		i := slices.IndexFunc(all, func(f feature) bool { return f.name == name })
		if i < 0 {
			return refuse(fmt.Errorf("there is no feature %q", name), "There are "+featureNames(featuresKnown))
		}
		mask |= all[i].bit
	}
	for _, f := range all {
		if mask&f.bit != 0 && mask&f.needs != f.needs {
			return refuse(fmt.Errorf("%s needs %s", f.name, featureNames(f.needs)), "Name both, or neither")
		}
	}
	return mask, nil
}

// exportedFeatures are those of an image that an export came from, as far as a
// new image can have them: what `rbd import` makes of them.
func exportedFeatures(mask uint64) (uint64, error) {
	if unknown := mask &^ featuresKnown; unknown != 0 {
		return 0, &target.Error{
			Op: "image features", Errno: syscall.ENOSYS,
			Err:  fmt.Errorf("the export has features that this version doesn't know: %#x", unknown),
			Hint: "Say --image-features to choose others",
		}
	}
	mask &^= featuresInternal | featureStriping
	// In the order of settable what is needed comes before what needs it.
	for _, f := range settable() {
		if mask&f.needs != f.needs {
			mask &^= f.bit
		}
	}
	return mask, nil
}

func featureNames(mask uint64) string {
	var names []string
	for _, f := range settable() {
		if mask&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ", ")
}

// withDefaults fills in what l leaves open.
func withDefaults(l, defaults target.Layout) target.Layout {
	if l.Order == 0 {
		l.Order = defaults.Order
	}
	if l.Features == nil && !l.HasFeatureBits {
		l.Features = defaults.Features
	}
	if l.Features == nil && !l.HasFeatureBits {
		l.Features = defaultFeatures()
	}
	if l.StripeUnit == 0 && l.StripeCount == 0 {
		l.StripeUnit, l.StripeCount = defaults.StripeUnit, defaults.StripeCount
	}
	if l.DataPool == "" {
		l.DataPool = defaults.DataPool
	}
	if l.Meta == nil {
		l.Meta = defaults.Meta
	}
	return l
}

// checkLayout refuses what librbd would refuse with an errno that says little, or
// would silently change, and returns the bits of the features.
func checkLayout(l target.Layout) (uint64, error) {
	refuse := func(format string, args ...any) (uint64, error) {
		return 0, &target.Error{Op: "image layout", Errno: syscall.EINVAL, Err: fmt.Errorf(format, args...)}
	}
	if l.Order != 0 && (l.Order < 12 || l.Order > 25) {
		return refuse("objects of 2^%d bytes: there are 2^12 to 2^25", l.Order)
	}
	if (l.StripeUnit == 0) != (l.StripeCount == 0) {
		return refuse("a stripe unit and a stripe count only go together")
	}
	if u := l.StripeUnit; u != 0 && l.Order != 0 && (u > 1<<l.Order || (1<<l.Order)%u != 0) {
		return refuse("a stripe unit of %d bytes doesn't divide objects of %d bytes", u, 1<<l.Order)
	}
	for key, value := range l.Meta {
		if strings.ContainsRune(key+value, 0) {
			return refuse("image-meta %q has a NUL in it", key)
		}
	}
	var mask uint64
	var err error
	if l.Features != nil {
		mask, err = namedFeatures(l.Features)
	} else {
		mask, err = exportedFeatures(l.FeatureBits)
	}
	if err == nil && striped(l) {
		mask |= featureStriping
	}
	return mask, err
}

// striped tells whether data goes round several objects. An export always names a
// unit and a count; one object after the other is said as (object size, 1).
func striped(l target.Layout) bool {
	return l.StripeCount > 1 || l.StripeCount == 1 && l.Order != 0 && l.StripeUnit != 1<<l.Order
}
