package model

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// diffFile spells a diff v1 out by hand, from the format's description.
func diffFile(from, to string, size uint64, body ...[]byte) []byte {
	out := []byte("rbd diff v1\n")
	if from != "" {
		out = append(binary.LittleEndian.AppendUint32(append(out, 'f'), uint32(len(from))), from...)
	}
	if to != "" {
		out = append(binary.LittleEndian.AppendUint32(append(out, 't'), uint32(len(to))), to...)
	}
	out = binary.LittleEndian.AppendUint64(append(out, 's'), size)
	return append(append(out, bytes.Join(body, nil)...), 'e')
}

func extent(tag byte, off, n uint64, payload string) []byte {
	out := binary.LittleEndian.AppendUint64([]byte{tag}, off)
	return append(binary.LittleEndian.AppendUint64(out, n), payload...)
}

func TestShrinkCutsForGood(t *testing.T) {
	dir := t.TempDir()
	files := map[string][]byte{
		"a.diff":    diffFile("", "a", 8, extent('w', 0, 8, "AAAAAAAA")),
		"a..b.diff": diffFile("a", "b", 5, extent('z', 1, 2, "")),
		"b..c.diff": diffFile("b", "c", 8, extent('w', 7, 1, "C"), extent('w', 0, 1, "c")),
		"last.diff": diffFile("b", "", 5),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*State{
		"a":    {Bytes: []byte("AAAAAAAA"), Data: []Range{{0, 8}}, Ways: 1},
		"b":    {Bytes: []byte("A\x00\x00AA"), Data: []Range{{0, 1}, {3, 5}}, Ways: 1},
		"c":    {Bytes: []byte("c\x00\x00AA\x00\x00C"), Data: []Range{{0, 1}, {3, 5}, {7, 8}}, Ways: 1},
		"last": {Bytes: []byte("A\x00\x00AA"), Data: []Range{{0, 1}, {3, 5}}, Ways: 1},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEndsEarly(t *testing.T) {
	whole := diffFile("", "a", 8, extent('w', 0, 8, "AAAAAAAA"))
	for cut := len(BannerDiff1); cut < len(whole); cut++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.diff"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Errorf("cut at %d of %d: no error", cut, len(whole))
		}
	}
}
