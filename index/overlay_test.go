package index

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestOverlay runs the chains in testdata/overlay, on both stores. A file there
// has lines like
//
//	overlay
//	step 1 size=64k          a full step; its segments are called 1
//	data 0-64k               an extent; its bytes follow those before it in the source
//	step 2 on=1 size=64k     an increment
//	zero 8k-12k
//	data 12k-20k at=100      an extent that stands at byte 100 of the source
//	view 2                   all of the image at step 2
//	view 2 10k-13k           a part of it
//
// and behind ---- one line for each view: segments as "[0,8k) data 1", with
// " at N" where the bytes aren't where the image has them. Run it with
// -rewrite to accept what the index does now.
func TestOverlay(t *testing.T) {
	datadriven.Walk(t, "testdata/overlay", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var outputs []string
			for _, dir := range []string{Memory, t.TempDir()} {
				c := &overlayChain{t: t, ix: mustOpen(t, dir), nodes: map[string]*Node{}, names: map[uint32]string{}}
				outputs = append(outputs, c.run(d.Input))
			}
			if outputs[0] != outputs[1] {
				d.Fatalf(t, "in memory:\n%s\non disk:\n%s", outputs[0], outputs[1])
			}
			return outputs[0]
		})
	})
}

// An overlayChain runs one script.
type overlayChain struct {
	t     *testing.T
	ix    *Index
	nodes map[string]*Node
	names map[uint32]string // of steps, by the node's number
	build *Build
	step  string
	pos   int64 // where the next data stands in the source
}

func (c *overlayChain) run(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var err error
		switch words[0] {
		case "step":
			c.commit()
			err = c.begin(words[1:])
		case "data", "zero":
			err = c.extent(words)
		case "view":
			c.commit()
			err = c.view(&out, words[1:])
		default:
			c.t.Fatalf("line %q isn't understood", line)
		}
		if err != nil {
			fmt.Fprintf(&out, "%s: %v\n", strings.TrimSpace(line), err)
		}
	}
	c.commit()
	return out.String()
}

func (c *overlayChain) begin(words []string) error {
	c.step, c.pos = words[0], 0
	var parent *Node
	size := int64(0)
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "on":
			if parent = c.nodes[value]; parent == nil {
				c.t.Fatalf("no step %s", value)
			}
		case "size":
			size = c.number(value)
		}
	}
	var err error
	c.build, err = c.ix.Begin(testID(len(c.nodes)), parent, size)
	return err
}

func (c *overlayChain) extent(words []string) error {
	from, to := c.span(words[1])
	e := Extent{Off: from, Len: to - from}
	if words[0] == "data" {
		e.Data, e.Pos = true, c.pos
		if len(words) > 2 {
			e.Pos = c.number(strings.TrimPrefix(words[2], "at="))
		}
		c.pos = e.Pos + e.Len
	}
	return c.build.Add(e)
}

func (c *overlayChain) commit() {
	if c.build == nil {
		return
	}
	n, err := c.build.Commit()
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[c.step], c.names[n.Number], c.build = n, c.step, nil
}

func (c *overlayChain) view(out *strings.Builder, words []string) error {
	n := c.nodes[words[0]]
	if n == nil {
		c.t.Fatalf("no step %s", words[0])
	}
	from, to := int64(0), int64(math.MaxInt64)
	if len(words) > 1 {
		from, to = c.span(words[1])
	}
	segs, err := c.ix.Map(n).Append(nil, from, to)
	if err != nil {
		return err
	}
	c.checkView(n, segs, len(words) == 1)
	list := make([]string, len(segs))
	for i, s := range segs {
		list[i] = c.show(s)
	}
	if len(list) == 0 {
		list = []string{"(empty)"}
	}
	_, err = fmt.Fprintf(out, "%s\n", strings.Join(list, " | "))
	return err
}

// checkView: a view has no gaps, and what the node says of it is so.
func (c *overlayChain) checkView(n *Node, segs []Segment, whole bool) {
	data := allocated(segs)
	for i, s := range segs {
		if s.Len <= 0 || i > 0 && s.Off != segs[i-1].End() {
			c.t.Fatalf("gap or overlap: %v", segs)
		}
		if p, err := ParseSegment(s.String()); err != nil || p != s {
			c.t.Fatalf("%v is read back as %v: %v", s, p, err)
		}
	}
	if whole && data != n.Allocated {
		c.t.Fatalf("the node says %d bytes of data, its segments %d", n.Allocated, data)
	}
}

func (c *overlayChain) show(s Segment) string {
	text := fmt.Sprintf("[%s,%s) ", size(s.Off), size(s.End()))
	if s.Hole() {
		return text + "hole"
	}
	text += "data " + c.names[s.Source]
	if s.Pos != s.Off {
		text += " at " + size(s.Pos)
	}
	return text
}

// span reads "8k-12k".
func (c *overlayChain) span(text string) (from, to int64) {
	a, b, _ := strings.Cut(text, "-")
	return c.number(a), c.number(b)
}

var units = []struct {
	suffix string
	bytes  int64
}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"k", 1 << 10}, {"", 1}}

func (c *overlayChain) number(text string) int64 {
	for _, u := range units {
		if digits, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return n * u.bytes
		}
	}
	return 0
}

func size(n int64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.suffix)
		}
	}
	return "0"
}
