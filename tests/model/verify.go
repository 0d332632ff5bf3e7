package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"rbdbackupfs/tests/scenario"
)

// Verify rebuilds every image that is expected from the files in repo and
// compares size and sha256 of each snapshot.
func Verify(repo string, expects []scenario.Expect) error {
	images := make(map[string]map[string]*State)
	var wrong []error
	for _, e := range expects {
		if images[e.Image] == nil {
			states, err := Load(filepath.Join(repo, e.Image))
			if err != nil {
				return err
			}
			images[e.Image] = states
		}
		state := images[e.Image][e.Snapshot]
		if state == nil {
			wrong = append(wrong, fmt.Errorf("%s@%s: no file leads to it", e.Image, e.Snapshot))
			continue
		}
		sum := sha256.Sum256(state.Bytes)
		if int64(len(state.Bytes)) != e.Size || hex.EncodeToString(sum[:]) != e.SHA256 {
			wrong = append(wrong, fmt.Errorf("%s@%s: %d bytes with sha256 %x, want %d with %s",
				e.Image, e.Snapshot, len(state.Bytes), sum, e.Size, e.SHA256))
		}
	}
	return errors.Join(wrong...)
}
