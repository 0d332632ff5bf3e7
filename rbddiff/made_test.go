package rbddiff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
)

// le64 and friends spell out files, byte by byte, without the code under test.
func le64(v uint64) string { return string(binary.LittleEndian.AppendUint64(nil, v)) }
func le32(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }

// v1 is a diff v1 with these records.
func v1(records ...string) string { return "rbd diff v1\n" + strings.Join(records, "") }

func nameV1(tag, name string) string { return tag + le32(uint32(len(name))) + name }
func sizeV1(size uint64) string      { return "s" + le64(size) }
func zeroV1(off, n uint64) string    { return "z" + le64(off) + le64(n) }
func dataV1(off uint64, data string) string {
	return "w" + le64(off) + le64(uint64(len(data))) + data
}

// v2 puts a length before a record's payload.
func v2(tag, payload string) string { return tag + le64(uint64(len(payload))) + payload }

func nameV2(tag, name string) string { return v2(tag, le32(uint32(len(name)))+name) }
func sizeV2(size uint64) string      { return v2("s", le64(size)) }
func diffV2(records ...string) string {
	return "rbd diff v2\n" + strings.Join(records, "") + "e"
}

// image is a container with these header records and diffs.
func image(header string, count uint64, diffs ...string) string {
	return "rbd image v2\n" + header + "E" + "rbd image diffs v2\n" + le64(count) + strings.Join(diffs, "")
}

// TestMade has the odd inputs of the list that no fixture is of.
func TestMade(t *testing.T) {
	const mib = 1 << 20
	head := diffV2(sizeV2(mib))
	snap := diffV2(nameV2("t", "a"), sizeV2(mib))
	tests := []struct{ name, content, verdict string }{
		{"row 1 ok", v1(nameV1("t", "a"), sizeV1(mib), dataV1(0, "x"), zeroV1(1, 5), "e"), "accept"},
		{"row 3 no size, no data, but a name", v1(nameV1("t", "a"), "e"), "corrupt 18 a full diff that doesn't say"},
		{"row 17 size cuts data", v1(zeroV1(0, 200), sizeV1(100), "e"), "corrupt 29 would cut it"},
		{"row 18 w-past-end", v1(sizeV1(100), dataV1(100, "x"), "e"), "corrupt 21 ends past the image's size 100"},
		{"row 18 without data", v1(sizeV1(100), dataV1(100, "x")), "corrupt 21 ends past the image's size 100"},
		{"row 19 z-straddle-tail", v1(sizeV1(100), zeroV1(99, 2), "e"), "corrupt 21 ends past"},
		{"row 21 z-len-max", v1(sizeV1(100), zeroV1(0, math.MaxUint64), "e"), "corrupt 21 passes the largest offset"},
		{"row 21 without size", v1(nameV1("f", "a"), zeroV1(0, MaxSize+1), "e"), "corrupt 18 passes the largest offset"},
		{"row 22 far and long", v1(nameV1("f", "a"), zeroV1(MaxSize, MaxSize), "e"), "corrupt 18 passes the largest offset"},
		{"row 25 w-len-2^64-1", v1(nameV1("f", "a"), "w"+le64(0)+le64(math.MaxUint64), "e"), "corrupt 18 passes"},
		{"w that ends past any file", v1(nameV1("f", "a"), "w"+le64(0)+le64(MaxSize), "e"), "incomplete 36 inside the data"},
		{"row 27 w-len0", v1(sizeV1(100), dataV1(100, ""), "e"), "accept"},
		{"row 28 w-allzero", v1(sizeV1(100), dataV1(0, "\x00\x00"), "e"), "accept"},
		{"row 30 overlap-wzw", v1(sizeV1(9), dataV1(0, "abc"), zeroV1(1, 1), dataV1(1, "d"), "e"), "accept"},
		{"row 41 trunc-12", v1(), "incomplete 12 without an end record"},
		{"row 46 to-dotdot", v1(nameV1("t", ".."), sizeV1(9), "e"), "accept"},
		{"row 47 to-nul-only", v1(nameV1("t", "\x00"), sizeV1(9), "e"), "corrupt 12 NUL"},
		{"row 49 to-nonutf8", v1(nameV1("t", "\xff\xfe"), sizeV1(9), "e"), "accept"},
		{"row 55 the largest size", v1(sizeV1(MaxSize), zeroV1(0, MaxSize), "e"), "accept"},
		{"row 55 one more", v1(sizeV1(MaxSize+1), "e"), "corrupt 12 more than a file can have"},
		{"row 66 unknown tag, header", image(v2("X", "abc"), 1, head), "accept 13 unknown record 'X'"},
		{"row 68 unknown tag back, header", image("X"+le64(math.MaxUint64), 1, head), "corrupt 13 bytes long"},
		{"row 70 count huge", image("", math.MaxUint64, snap), "incomplete 85 diff 2 of 9223372036854775807 is missing"},
		{"row 73 no size in a later diff", image("", 2, snap, diffV2(nameV2("f", "a"))), "corrupt 111 doesn't say the image's size"},
		{"row 74 dup T", image(v2("T", le64(1))+v2("T", le64(1)), 1, head), "corrupt 30 a second features record"},
		{"row 77 unknown bits", image(v2("T", le64(1<<40|61)), 1, head), "accept 13 unknown image features 0x10000000000"},
		{"row 77 all bits", image(v2("T", le64(math.MaxUint64)), 1, head), "accept 13 unknown image features"},
		{"row 78 operations", image(v2("T", le64(317)), 1, head), "accept"},
		{"row 79 stripe count 0", image(v2("U", le64(4096))+v2("C", le64(0)), 1, head), "accept 47 stripe count is 0"},
		{"row 82 long meta", image("M"+le64(MaxMeta+1), 1, head), "corrupt 13 more than 1048576"},
		{"row 82 key longer than record", image(v2("M", le32(9)+"k"+le32(0)), 1, head), "corrupt 13 a key or value of 9 bytes"},
		{"row 82 record longer than both", image(v2("M", le32(1)+"k"+le32(1)+"vXX"), 1, head), "corrupt 13 2 bytes longer"},
		{"row 83 no E", "rbd image v2\n" + "rbd image diffs v2\n" + le64(1) + head, "corrupt 13 header of the export has no end"},
		{"row 83 no E, cut", "rbd image v2\n" + "rbd im", "incomplete 19 export's header"},
		{"row 83 meta after", "rbd image v2\nE" + v2("M", le32(1)+"k"+le32(1)+"v") + head, "corrupt 14 is expected here"},
		{"row 84 v1 diff in front of a header", v1(v2("O", le64(22)), "e"), "corrupt 12 unknown record 'O'"},
		{"row 86 dup snap", image("", 3, snap, diffV2(nameV2("f", "a"), nameV2("t", "b"), sizeV2(9)),
			diffV2(nameV2("f", "b"), nameV2("t", "a"), sizeV2(9))), "corrupt 169 two diffs of the export end at snapshot \"a\""},
		{"head in the middle", image("", 2, head, head), "corrupt 71 diff 1 of 2 has no end snapshot"},
		{"skips a snapshot", image("", 3, snap, diffV2(nameV2("f", "a"), nameV2("t", "b"), sizeV2(9)),
			diffV2(nameV2("f", "a"), sizeV2(9))), "corrupt 155 the one before it ends at \"b\""},
		{"second size, container", image("", 1, diffV2(sizeV2(9), sizeV2(9))), "corrupt 70 a second image size"},
		{"p after data", v1(nameV1("t", "a"), sizeV1(9), dataV1(0, "x"), "p\x01", "e"), "accept"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, err := parseVerdict("made " + test.verdict)
			if err != nil {
				t.Fatal(err)
			}
			checkVerdict(t, v, []byte(test.content))
		})
	}
}

// TestBounds: what a file claims costs nothing until it is there.
func TestBounds(t *testing.T) {
	var metas strings.Builder
	for range MaxMetaTotal/MaxMeta + 1 {
		metas.WriteString(v2("M", le32(1)+"k"+le32(MaxMeta-9)+strings.Repeat("v", MaxMeta-9)))
	}
	_, err := Scan(strings.NewReader(image(metas.String(), 1)), -1)
	if wrong := checkError(err, ErrCorrupt, 13+7*(MaxMeta+9), "image-meta is longer"); wrong != nil {
		t.Error(wrong)
	}

	files := map[string]string{
		"meta":  "rbd image v2\nM" + le64(MaxMeta) + le32(MaxMeta-8),
		"count": image("", math.MaxInt64, "rbd diff v2\n"),
		"name":  v1("t" + le32(MaxName)),
		"data":  v1("w" + le64(0) + le64(1<<40)),
	}
	for name, content := range files {
		if got := allocated(func() { Scan(strings.NewReader(content), -1) }); got > 2*smallBuffer {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

// allocated is how many bytes a function allocates, the least of three runs.
func allocated(run func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// TestLongNames: the names of all snapshots together are bounded.
func TestLongNames(t *testing.T) {
	const n = MaxNamesTotal/MaxName + 1
	diffs := make([]string, n)
	prev := ""
	for i := range diffs {
		name := fmt.Sprintf("%0*d", MaxName, i)
		records := []string{nameV2("t", name), sizeV2(1)}
		if prev != "" {
			records = append(records, nameV2("f", prev))
		}
		diffs[i], prev = diffV2(records...), name
	}
	info, err := Scan(strings.NewReader(image("", n, diffs...)), -1)
	if err == nil || !strings.Contains(err.Error(), "longer than 16 MiB") || len(info.Steps) != n-1 {
		t.Fatal(err)
	}
}

// TestManyWarnings: a file of nothing but oddities doesn't fill the memory.
func TestManyWarnings(t *testing.T) {
	const n = 1000
	info, err := Scan(strings.NewReader(image(strings.Repeat(v2("X", "abc"), n), 1, diffV2(sizeV2(9)))), -1)
	if err != nil || len(info.Warnings) != maxWarnings+1 {
		t.Fatal(info, err)
	}
	if got, want := info.Warnings[0].String(), "unknown record 'X' is skipped (at byte 13)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := info.Warnings[maxWarnings].Reason, fmt.Sprintf("%d more warnings", n-maxWarnings); !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestManyDiffs: the number of diffs is bounded, whatever the count says.
func TestManyDiffs(t *testing.T) {
	var diffs bytes.Buffer
	diffs.WriteString(image("", MaxDiffs+1))
	prev := ""
	for i := range MaxDiffs + 1 {
		name := fmt.Sprint(i)
		records := []string{nameV2("t", name), sizeV2(1)}
		if prev != "" {
			records = append(records, nameV2("f", prev))
		}
		diffs.WriteString(diffV2(records...))
		prev = name
	}
	info, err := Scan(&diffs, -1)
	if err == nil || !strings.Contains(err.Error(), "more than 65536") || len(info.Steps) != MaxDiffs {
		t.Fatalf("%d steps, %v", len(info.Steps), err)
	}
}
