package chain

import (
	"strings"
	"testing"
)

// TestBytesDone: how far a compressed file is read is told while it is.
func TestBytesDone(t *testing.T) {
	f := &fileState{path: "a.gz"}
	f.pin.Size = 100
	s := scanned{strings.NewReader(strings.Repeat("x", 1000)), &f.scanned}
	for _, step := range []struct{ off, want int64 }{{0, 30}, {30, 60}, {90, 100}} {
		if _, err := s.ReadAt(make([]byte, 30), step.off); err != nil {
			t.Fatal(err)
		}
		if got := f.bytesDone(); got != step.want {
			t.Errorf("read to %d: %d", step.off+30, got)
		}
	}
	f.scanned.Store(0)
	f.info = &fileInfo{}
	if got := f.bytesDone(); got != 100 {
		t.Errorf("known: %d", got)
	}
}
