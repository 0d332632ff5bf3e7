package scenario

import (
	"context"
	"fmt"
)

// A Case is one kind of backup. Its images are named after it.
type Case struct {
	// Name is also the folder of its files in the repository.
	Name string
	// About says what is special, one line.
	About string

	make func(*Builder)
}

// Build makes the case below repo, with the cluster of the ceph.conf. It leaves
// its images in the cluster.
func (c Case) Build(ctx context.Context, conf, repo string, scale Scale) ([]Expect, error) {
	b := NewBuilder(ctx, conf, repo, c.Name, scale)
	c.make(b)
	if b.err != nil {
		return nil, fmt.Errorf("case %s: %w", c.Name, b.err)
	}
	return b.expects, nil
}

// Cases returns all of them.
func Cases() []Case {
	return []Case{
		{"increments", "a full diff and 30 increments", increments},
		{"striped", "stripes of 64 KiB over 8 objects", striped},
		{"resize", "shrink, grow, shrink, and a diff that jumps over it", resize},
		{"odd", "sizes that fit no sector, page or object", odd},
		{"objects-64k", "objects of 64 KiB", func(b *Builder) { objects(b, "64K", 1<<20) }},
		{"objects-8m", "objects of 8 MiB", func(b *Builder) { objects(b, "8M", 32<<20) }},
		{"whole-object", "exports with --whole-object, with and without an object map", wholeObject},
		{"no-object-map", "an image without object map", noObjectMap},
		{"clone", "a clone: the parent's bytes, holes over them, shrunk and grown", clone},
		{"raw-base", "a raw export and increments on it", rawBase},
		{"container", "format 2: four snapshots, one protected, image-meta; increments that fork", container},
		{"to-head", "diffs without a snapshot at their end", toHead},
		{"fan", "five diffs from one base", fan},
		{"merged", "output of rbd merge-diff", merged},
		{"namespaces", "one image name in two namespaces", namespaces},
		{"discard", "zeros over data, and all of it", discard},
		{"empty", "images without bytes and without data", empty},
		{"names", "snapshot names that a file name can't hold or the tree uses itself", names},
	}
}

// numbered returns prefix0, prefix1, ... up to and with n.
func numbered(prefix string, n int) []string {
	out := make([]string, 0, n+1)
	for i := range n + 1 {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

// grow makes the snapshots, with random changes before each of them.
func grow(img *Img, snapshots []string, writes int) {
	for _, name := range snapshots {
		img.Scatter(writes)
		img.Snap(name)
	}
}

func increments(b *Builder) {
	img := b.Create("rbd/increments", "", 3<<20*b.Scale.Factor, "--object-size", "256K")
	snapshots := numbered("s", 30)
	img.Scatter(8)
	grow(img, snapshots, 2)
	img.Chain(snapshots)
	img.Expect(snapshots...)
}

func striped(b *Builder) {
	img := b.Create("rbd/striped", "", 1<<20*b.Scale.Factor,
		"--object-size", "512K", "--stripe-unit", "64K", "--stripe-count", "8")
	// Across the edges of stripe units, which lie in different objects.
	img.Fill(64<<10-700, 1400)
	img.Fill(3*64<<10-10, 900)
	img.Snap("s0")
	img.Fill(2*64<<10-5, 10)
	snapshots := numbered("s", 5)
	grow(img, snapshots[1:], 3)
	img.Chain(snapshots)
	img.Diff("s1", "s4")
	img.Expect(snapshots...)
}

func resize(b *Builder) {
	f := b.Scale.Factor
	img := b.Create("rbd/resize", "", 96<<10*f, "--object-size", "16K")
	img.Fill(0, 96<<10*f)
	img.Snap("r0")
	img.Resize(30_000 * f)
	img.Snap("r1")
	img.Resize(112 << 10 * f)
	img.Fill(100_000*f, 3000)
	img.Snap("r2")
	img.Resize(50_001 * f)
	img.Fill(49_000*f, 1001)
	img.Snap("r3")
	img.Resize(64 << 10 * f)
	img.Snap("r4")
	img.Chain(numbered("r", 4))
	img.Diff("r0", "r2")
	img.Expect(numbered("r", 4)...)
}

func odd(b *Builder) {
	for _, size := range []int64{1, 511, 5000, 65537, 131071} {
		name := fmt.Sprint(size)
		img := b.Create("rbd/odd-"+name, name, size, "--object-size", "16K")
		img.Fill(0, min(size, 300))
		img.Fill(size-1, 1)
		img.Snap("a")
		img.Fill(size/2, min(size-size/2, 700))
		img.Snap("b")
		img.Resize(size + 3)
		img.Fill(size+1, 1)
		img.Snap("c")
		img.Chain([]string{"a", "b", "c"})
		img.Expect("a", "b", "c")
	}
}

func objects(b *Builder, object string, size int64) {
	img := b.Create("rbd/objects-"+object, "", min(size*b.Scale.Factor, 96<<20), "--object-size", object)
	img.Fill(0, 700)
	img.Scatter(4)
	snapshots := numbered("s", 4)
	grow(img, snapshots, 3)
	img.Chain(snapshots)
	img.Expect(snapshots...)
}

func wholeObject(b *Builder) {
	kinds := map[string][]string{
		"object-map": {"--image-feature", "layering,exclusive-lock,object-map,fast-diff"},
		"plain":      {"--image-feature", "layering"},
	}
	for _, kind := range []string{"object-map", "plain"} {
		img := b.Create("rbd/whole-object-"+kind, kind, 100_000*b.Scale.Factor,
			append(kinds[kind], "--object-size", "8K")...)
		img.Fill(100, 9000)
		snapshots := numbered("s", 3)
		grow(img, snapshots, 2)
		img.Chain(snapshots, "--whole-object")
		img.Expect(snapshots...)
	}
}

func noObjectMap(b *Builder) {
	img := b.Create("rbd/no-object-map", "", 1<<20*b.Scale.Factor,
		"--object-size", "64K", "--image-feature", "layering")
	snapshots := numbered("s", 4)
	grow(img, snapshots, 4)
	img.Write(Extent{Off: 0, Zeros: img.size})
	img.Snap("s5")
	snapshots = append(snapshots, "s5")
	img.Chain(snapshots)
	img.Expect(snapshots...)
}

func clone(b *Builder) {
	f := b.Scale.Factor
	parent := b.Create("rbd/clone-parent", "parent", 64<<10*f, "--object-size", "16K")
	parent.Fill(0, 40_000*f)
	parent.Snap("golden")
	parent.Do("golden", "snap", "protect")
	child := parent.Clone("golden", "rbd/clone-child", "child", "--object-size", "16K")
	child.Fill(5000, 1000)
	child.Write(Extent{Off: 16 << 10, Zeros: 16 << 10}, Extent{Off: 33_000, Zeros: 500})
	child.Snap("c0")
	child.Fill(34_000, 100)
	child.Write(Extent{Off: 0, Zeros: 4096})
	child.Snap("c1")
	child.Resize(20_000)
	child.Snap("c2")
	child.Resize(64 << 10 * f)
	child.Fill(50_000, 700)
	child.Snap("c3")
	parent.Full("golden")
	parent.Expect("golden")
	child.Chain(numbered("c", 3))
	child.Expect(numbered("c", 3)...)
}

func rawBase(b *Builder) {
	img := b.Create("rbd/raw-base", "", 90_001*b.Scale.Factor, "--object-size", "16K")
	snapshots := numbered("s", 4)
	grow(img, snapshots[:3], 4)
	img.Resize(140_000 * b.Scale.Factor)
	grow(img, snapshots[3:], 4)
	img.Raw("s0", ".raw")
	for i, to := range snapshots[1:] {
		img.Diff(snapshots[i], to)
	}
	img.Expect(snapshots...)
}

func container(b *Builder) {
	img := b.Create("rbd/container", "", 2<<20*b.Scale.Factor, "--object-size", "256K")
	b.Rbd("image-meta", "set", img.spec, "owner", "billing")
	b.Rbd("image-meta", "set", img.spec, "purpose", "the year's books, ünïcode and all")
	img.Scatter(4)
	snapshots := []string{"s1", "s2", "s3", "s4"}
	grow(img, snapshots, 3)
	img.Do("s2", "snap", "protect")
	img.Scatter(3)
	img.Container("base.rbd2")
	img.ExpectHead("base")
	// An increment on the state that the container ends with, which has no name in
	// it but that of the file.
	img.Snap("base")
	img.Scatter(3)
	img.Snap("after")
	img.Diff("base", "after")
	// And a fork: back to the last snapshot, and on from there.
	img.Do("s4", "snap", "rollback", "--no-progress")
	img.Scatter(3)
	img.Snap("s5")
	img.Scatter(3)
	img.Snap("s6")
	img.Diff("s4", "s5")
	img.Diff("s5", "s6")
	img.Expect("s1", "s2", "s3", "s4", "after", "s5", "s6")
}

func toHead(b *Builder) {
	img := b.Create("rbd/to-head", "", 1<<20*b.Scale.Factor, "--object-size", "64K")
	grow(img, []string{"s0", "s1"}, 4)
	img.Chain([]string{"s0", "s1"})
	img.Expect("s0", "s1")
	img.Scatter(3)
	img.DiffToHead("s1", "monday")
	img.ExpectHead("monday")
	img.Scatter(3)
	img.DiffToHead("s1", "tuesday")
	img.ExpectHead("tuesday")
}

func fan(b *Builder) {
	img := b.Create("rbd/fan", "", 2<<20*b.Scale.Factor, "--object-size", "64K")
	snapshots := numbered("day", 5)
	img.Scatter(8)
	grow(img, snapshots, 2)
	img.Full("day0")
	for _, to := range snapshots[1:] {
		img.Diff("day0", to)
	}
	img.Expect(snapshots...)
}

func merged(b *Builder) {
	img := b.Create("rbd/merged", "", 96<<10*b.Scale.Factor, "--object-size", "16K")
	snapshots := numbered("m", 5)
	grow(img, snapshots[:3], 4)
	img.Resize(40_000 * b.Scale.Factor)
	grow(img, snapshots[3:4], 3)
	img.Resize(120_000 * b.Scale.Factor)
	grow(img, snapshots[4:], 3)
	img.Chain(snapshots)
	b.Merge(img, "m0.diff", "m0..m1.diff", "m1.diff")
	b.Merge(img, "m1..m2.diff", "m2..m3.diff", "m1..m3.diff")
	b.Merge(img, "m3..m4.diff", "m4..m5.diff", "m3..m5.diff")
	img.Expect("m1", "m3", "m5")
}

func namespaces(b *Builder) {
	for _, ns := range []string{"blue", "green"} {
		b.Rbd("namespace", "create", "rbd/"+ns)
		img := b.Create("rbd/"+ns+"/vm", ns+"/vm", 256<<10*b.Scale.Factor, "--object-size", "64K")
		grow(img, []string{"s0", "s1"}, 3)
		img.Chain([]string{"s0", "s1"})
		img.Expect("s0", "s1")
	}
}

func discard(b *Builder) {
	img := b.Create("rbd/discard", "", 80_000*b.Scale.Factor, "--object-size", "16K")
	img.Fill(0, img.size)
	img.Snap("full")
	img.Write(Extent{Off: 100, Zeros: 1}, Extent{Off: 16 << 10, Zeros: 16 << 10}, Extent{Off: 40_000, Zeros: 20_001})
	img.Snap("holes")
	img.Fill(17_000, 50)
	img.Snap("islands")
	img.Write(Extent{Off: 0, Zeros: img.size})
	img.Snap("nothing")
	snapshots := []string{"full", "holes", "islands", "nothing"}
	img.Chain(snapshots)
	img.Expect(snapshots...)
}

func empty(b *Builder) {
	none := b.Create("rbd/empty-none", "none", 0)
	none.Snap("a")
	none.Resize(10_000)
	none.Fill(9_000, 1000)
	none.Snap("b")
	none.Resize(0)
	none.Snap("c")
	none.Chain([]string{"a", "b", "c"})
	none.Expect("a", "b", "c")
	holes := b.Create("rbd/empty-holes", "holes", 64<<20)
	holes.Snap("a", "b")
	holes.Chain([]string{"a", "b"})
	holes.Expect("a", "b")
}

func names(b *Builder) {
	img := b.Create("rbd/names", "", 64<<10*b.Scale.Factor, "--object-size", "16K")
	snapshots := []string{"latest", "..", ".hidden", "with space", "100%", "a~b", "disk.p1", "größe", "end.img"}
	for i, name := range snapshots {
		img.Scatter(2)
		img.Snap(name)
		// The files have plain names: what counts is the name inside.
		if i == 0 {
			img.exportDiff("0.diff", img.at(name), nil)
		} else {
			img.exportDiff(fmt.Sprint(i)+".diff", img.at(name), []string{"--from-snap", snapshots[i-1]})
		}
	}
	img.Expect(snapshots...)
}
