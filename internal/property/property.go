// Package property is for tests: properties that are checked for many drawn cases.
package property

import (
	"flag"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// Often checks a property some times as often as rapid does by itself, for what is
// quick to check: the same cases in each run, unless -rapid.seed says otherwise.
func Often(t *testing.T, times int, property func(*rapid.T)) {
	t.Helper()
	seed := flag.Lookup("rapid.seed").Value
	given := seed.String()
	defer func() { _ = seed.Set(given) }() // it was that
	for i := range times {
		if given == "0" {
			if err := seed.Set(strconv.Itoa(i + 1)); err != nil {
				t.Fatal(err)
			}
		}
		rapid.Check(t, property)
	}
}
