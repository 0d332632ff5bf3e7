package index

import (
	"errors"
	"strings"
	"testing"
)

// TestNodeNote: a note goes with its node, whenever it is set.
func TestNodeNote(t *testing.T) {
	dir := t.TempDir()
	ix, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := build(t, ix, 0, nil, 1<<20, Extent{0, 1 << 20, true, 0})
	b := build(t, ix, 1, a, 1<<20, Extent{0, 512, true, 7})
	set := func(n *Node, note string) {
		t.Helper()
		if err := ix.SetNodeNote(n, note); err != nil {
			t.Fatal(err)
		}
		if got := ix.NodeNote(n); got != note {
			t.Fatalf("%q, want %q", got, note)
		}
	}
	set(a, "one") // before its marker is written
	if err := ix.Sync(); err != nil {
		t.Fatal(err)
	}
	set(b, strings.Repeat("x", MaxNodeNote)) // after
	if err := ix.Sync(); err != nil {
		t.Fatal(err)
	}
	set(a, "two") // never synced
	if err := ix.SetNodeNote(b, strings.Repeat("x", MaxNodeNote+1)); err == nil {
		t.Error("any length is taken")
	}
	after := mustOpen(t, copyIndex(t, dir))
	check := func(ix *Index, id int, want string) {
		t.Helper()
		n, ok := ix.Node(testID(id))
		if !ok || ix.NodeNote(n) != want || n.Size != 1<<20 || n.Allocated != 1<<20 {
			t.Errorf("node %d: %+v, want %q", id, n, want)
		}
	}
	check(after, 0, "one")
	check(after, 1, strings.Repeat("x", MaxNodeNote))

	if err := ix.Close(); err != nil {
		t.Fatal(err)
	}
	ix = mustOpen(t, dir)
	check(ix, 0, "two")
	n, _ := ix.Node(testID(1))
	want := segments(t, ix, n)
	set(n, "")
	if err := ix.Retain(func(id NodeID) bool { return id == testID(0) }); err != nil {
		t.Fatal(err)
	}
	if err := ix.SetNodeNote(n, "x"); !errors.Is(err, ErrNoNode) {
		t.Error(err)
	}
	if len(want) != 2 {
		t.Error(want)
	}
}
