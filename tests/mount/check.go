package mount

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/tests/model"
)

// CheckImage compares a snapshot's file with the bytes that it must have: its
// size, reads of any offset and length, with and without the page cache, its
// whole contents, and its holes.
func CheckImage(t testing.TB, path string, want *model.State) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Error(err)
		return
	}
	if info.Size() != int64(len(want.Bytes)) {
		t.Errorf("%s: %d bytes, want %d", path, info.Size(), len(want.Bytes))
		return
	}
	checkReads(t, f, want.Bytes)
	checkWhole(t, path, want.Bytes)
	checkHoles(t, f, want)
}

// randomReads is how many checkReads makes of each kind.
const randomReads = 40

// checkReads reads at random, also over the end. It comes before the file is in
// the page cache, and goes round it half of the time.
func checkReads(t testing.TB, f *os.File, want []byte) {
	t.Helper()
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = direct.Close() }()
	random := rand.New(rand.NewPCG(uint64(len(want)), 7))
	for range randomReads {
		for _, r := range []*os.File{f, direct} {
			off := random.Int64N(int64(len(want)) + 2)
			length := 1 + random.Int64N(1<<(4+random.IntN(15)))
			if !readMatches(t, r, off, length, want) {
				return
			}
		}
	}
}

func readMatches(t testing.TB, f *os.File, off, length int64, want []byte) bool {
	t.Helper()
	expected := want[min(off, int64(len(want))):min(off+length, int64(len(want)))]
	got := make([]byte, length)
	n, err := f.ReadAt(got, off)
	if err != nil && !(errors.Is(err, io.EOF) && off+length > int64(len(want))) {
		t.Errorf("%s: read of %d at %d: %v", f.Name(), length, off, err)
		return false
	}
	if !bytes.Equal(got[:n], expected) {
		t.Errorf("%s: read of %d at %d gives %d bytes and others, want %d", f.Name(), length, off, n, len(expected))
		return false
	}
	return true
}

func checkWhole(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: differs first at byte %d", path, i)
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: read %d bytes, want %d", path, len(got), len(want))
	}
}

// checkHoles walks the file with SEEK_DATA and SEEK_HOLE and compares with what
// data records say, and with st_blocks.
func checkHoles(t testing.TB, f *os.File, want *model.State) {
	t.Helper()
	data, err := DataRanges(f)
	if err != nil {
		t.Errorf("%s: %v", f.Name(), err)
		return
	}
	end := int64(0)
	for _, r := range append(data, model.Range{Start: int64(len(want.Bytes)), End: int64(len(want.Bytes))}) {
		if hole := want.Bytes[end:r.Start]; bytes.Count(hole, []byte{0}) != len(hole) {
			t.Errorf("%s: data in the hole [%d,%d)", f.Name(), end, r.Start)
		}
		end = r.End
	}
	if !want.Raw && want.Ways == 1 && !slices.Equal(data, want.Data) {
		t.Errorf("%s: data at %v, want %v", f.Name(), data, want.Data)
	}
	info, err := f.Stat()
	if err != nil {
		t.Error(err)
		return
	}
	if got, blocks := info.Sys().(*syscall.Stat_t).Blocks, (model.Sum(data)+511)/512; got != blocks {
		t.Errorf("%s: st_blocks is %d, want %d for %d bytes of data", f.Name(), got, blocks, model.Sum(data))
	}
}

// DataRanges returns the data of a file as SEEK_DATA and SEEK_HOLE tell it.
func DataRanges(f *os.File) ([]model.Range, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var ranges []model.Range
	for at := int64(0); at < info.Size(); {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return nil, os.NewSyscallError("lseek SEEK_DATA", err)
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return nil, os.NewSyscallError("lseek SEEK_HOLE", err)
		}
		if start < at || end <= start || end > info.Size() {
			return nil, errors.New("SEEK_DATA and SEEK_HOLE don't advance, or pass the end")
		}
		ranges = append(ranges, model.Range{Start: start, End: end})
		at = end
	}
	return ranges, nil
}

// CheckSum compares the sha256 and the size of a snapshot's file.
func CheckSum(t testing.TB, path, sha string, size int64) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return false
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return false
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != size || got != sha {
		t.Errorf("%s: %d bytes with sha256 %s, rbd export gave %d with %s", path, n, got, size, sha)
		return false
	}
	return true
}
