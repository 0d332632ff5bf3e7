package rbddiff

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// An event is a record with its data, without its place in the file.
type event struct {
	Rec  Record
	Data string
}

// drawStream draws the events of a valid file.
func drawStream(t *rapid.T) (Format, []event) {
	var events []event
	add := func(rec Record) { events = append(events, event{Rec: rec}) }
	if rapid.Bool().Draw(t, "v1") {
		add(Record{Kind: DiffStart, Count: 1})
		from, to := "", rapid.StringMatching(`[a-z/\n\xff]{0,3}`).Draw(t, "to")
		if rapid.Bool().Draw(t, "incremental") {
			from = "from"
		}
		return DiffV1, drawDiff(t, events, from, to)
	}
	drawHeader(t, add)
	count := rapid.IntRange(1, 4).Draw(t, "count")
	prev := ""
	for i := range count {
		add(Record{Kind: DiffStart, Index: i, Count: int64(count)})
		to := ""
		if i < count-1 || rapid.Bool().Draw(t, "ends at a snapshot") {
			to = fmt.Sprintf("snap %d%s", i, strings.Repeat("x", rapid.IntRange(0, MaxName-8).Draw(t, "long")))
		}
		events = drawDiff(t, events, prev, to)
		add = func(rec Record) { events = append(events, event{Rec: rec}) }
		prev = to
	}
	return Container, events
}

func drawHeader(t *rapid.T, add func(Record)) {
	numbers := []Record{
		{Kind: HeaderOrder, Number: rapid.Uint64Range(MinOrder, MaxOrder).Draw(t, "order")},
		{Kind: HeaderFeatures, Number: rapid.Uint64().Draw(t, "features")},
		{Kind: StripeUnit, Number: rapid.Uint64().Draw(t, "unit")},
		{Kind: StripeCount, Number: rapid.Uint64().Draw(t, "stripe count")},
	}
	for _, rec := range rapid.Permutation(numbers).Draw(t, "numbers")[:rapid.IntRange(0, 4).Draw(t, "some")] {
		add(rec)
	}
	for range rapid.IntRange(0, 3).Draw(t, "metas") {
		value := strings.Repeat("v", rapid.SampledFrom([]int{0, 3, 9000, 70000}).Draw(t, "value"))
		add(Record{Kind: Meta, Key: rapid.String().Draw(t, "key"), Value: value})
	}
	add(Record{Kind: HeaderEnd})
}

// drawDiff appends the records of a diff: metadata in any order, extents in any
// order and overlapping, the size before, between or after them.
func drawDiff(t *rapid.T, events []event, from, to string) []event {
	size := rapid.OneOf(rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, MaxSize)).Draw(t, "size")
	rest := []event{{Rec: Record{Kind: Size, Size: size}}}
	if from != "" {
		rest = append(rest, event{Rec: Record{Kind: From, Name: from}})
	}
	if to != "" {
		rest = append(rest, event{Rec: Record{Kind: To, Name: to}})
	}
	if rapid.Bool().Draw(t, "protect") {
		rest = append(rest, event{Rec: Record{Kind: Protect, Protected: rapid.Bool().Draw(t, "protected")}})
	}
	for range rapid.IntRange(0, 12).Draw(t, "extents") {
		off := rapid.Int64Range(0, size).Draw(t, "offset")
		if rapid.Bool().Draw(t, "zero") {
			n := rapid.Int64Range(0, size-off).Draw(t, "zeros")
			rest = append(rest, event{Rec: Record{Kind: Zero, Offset: off, Length: n}})
			continue
		}
		n := min(size-off, rapid.SampledFrom([]int64{0, 1, 511, 4096, 5000, 100_000}).Draw(t, "data"))
		data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, int(n))
		rest = append(rest, event{Record{Kind: Data, Offset: off, Length: n}, string(data)})
	}
	events = append(events, rapid.Permutation(rest).Draw(t, "order of records")...)
	return append(events, event{Rec: Record{Kind: End}})
}

func writeEvents(t *rapid.T, format Format, events []event) []byte {
	var out bytes.Buffer
	w, err := NewWriter(&out, format)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.WriteRecord(e.Rec); err != nil {
			t.Fatal(e.Rec, err)
		}
		if _, err := io.WriteString(w, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || w.Offset() != int64(out.Len()) {
		t.Fatal(err, w.Offset(), out.Len())
	}
	return out.Bytes()
}

// readEvents reads all, of each record's data as much as read says.
func readEvents(src io.Reader, read func(length int64) int64) ([]event, []Record, error) {
	r, err := NewReader(src)
	if err != nil {
		return nil, nil, err
	}
	var events []event
	var raw []Record
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return events, raw, nil
		}
		if err != nil {
			return events, raw, err
		}
		raw = append(raw, rec)
		e := event{Rec: rec}
		e.Rec.Pos, e.Rec.DataPos = 0, 0
		if rec.Kind == Data {
			data, err := io.ReadAll(io.LimitReader(r, read(rec.Length)))
			if err != nil {
				return events, raw, err
			}
			e.Data = string(data)
		}
		events = append(events, e)
	}
}

// TestAnyStream: what is written is read back, by every kind of source, with
// all, some or none of its data read; positions point at what they say; Scan
// tells the same.
func TestAnyStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		format, events := drawStream(t)
		content := writeEvents(t, format, events)
		sources := map[string]func() io.Reader{
			"seek":    func() io.Reader { return bytes.NewReader(content) },
			"stream":  func() io.Reader { return streamOnly{bytes.NewReader(content)} },
			"half":    func() io.Reader { return iotest.HalfReader(bytes.NewReader(content)) },
			"dataerr": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(content)) },
		}
		for name, source := range sources {
			got, raw, err := readEvents(source(), func(n int64) int64 { return n })
			if diff := cmp.Diff(events, got); err != nil || diff != "" {
				t.Fatalf("%s: %v\n%s", name, err, diff)
			}
			part := rapid.Int64Range(0, 6000).Draw(t, "part")
			_, skipped, err := readEvents(source(), func(n int64) int64 { return min(n, part) })
			if diff := cmp.Diff(raw, skipped); err != nil || diff != "" {
				t.Fatalf("%s, skipping: %v\n%s", name, err, diff)
			}
			checkPositions(t, content, format, raw, got)
		}
		checkScan(t, content, events)
	})
}

func checkPositions(t *rapid.T, content []byte, format Format, raw []Record, events []event) {
	for i, rec := range raw {
		if rec.Kind == Data && string(content[rec.DataPos:rec.DataPos+rec.Length]) != events[i].Data {
			t.Fatalf("%v: DataPos %d", rec, rec.DataPos)
		}
		want := AppendRecord(nil, format, rec)
		if rec.Kind == DiffStart && format == Container {
			want = []byte(bannerDiffV2) // the list's banner stands before it
		}
		if !bytes.HasPrefix(content[rec.Pos:], want) {
			t.Fatalf("%v: not what stands there", rec)
		}
	}
}

func checkScan(t *rapid.T, content []byte, events []event) {
	info, err := Scan(bytes.NewReader(append(content, "!"...)), -1)
	streamed, streamErr := Scan(streamOnly{bytes.NewReader(append(content, "!"...))}, -1)
	if diff := cmp.Diff(info, streamed); err != nil || streamErr != nil || diff != "" {
		t.Fatal(err, streamErr, diff)
	}
	var steps, records, bytesOfData int64
	for _, e := range events {
		switch e.Rec.Kind {
		case DiffStart:
			steps++
		case Data:
			records++
			bytesOfData += e.Rec.Length
		case Zero:
			records++
		}
	}
	end := int64(0)
	for _, s := range info.Steps {
		steps, records, bytesOfData = steps-1, records-s.Records, bytesOfData-s.DataBytes
		if s.Pos < end || s.End <= s.Pos || s.MaxEnd > s.Size {
			t.Fatalf("step %+v after %d", s, end)
		}
		end = s.End
	}
	if steps != 0 || records != 0 || bytesOfData != 0 || end != int64(len(content)) || info.Trailing != 1 {
		t.Fatalf("%+v: off by %d steps, %d records, %d bytes", info, steps, records, bytesOfData)
	}
}
