package scenario

import (
	"bytes"
	"encoding/binary"
	"io"
	"path"
	"slices"
	"strconv"
)

// defaultObject is the size of an object that rbd chooses, bytes.
const defaultObject = 4 << 20

// An Img is an image in the cluster, and the folder that its backups go to.
type Img struct {
	b      *Builder
	spec   string // pool/[namespace/]image
	folder string // below the case's folder; "" for the case's own
	size   int64
	object int64 // bytes of an object
}

// An Extent is a write of [Off, Off+len(Data)), or of Zeros zeros when that isn't 0.
type Extent struct {
	Off   int64
	Data  []byte
	Zeros int64
}

// Create makes an image of the size. Its backups go to the folder, which may be
// empty for the case's own.
func (b *Builder) Create(spec, folder string, size int64, flags ...string) *Img {
	args := []string{"create", "--size", strconv.FormatInt(size, 10) + "B"}
	b.Rbd(append(append(args, flags...), spec)...)
	return &Img{b: b, spec: spec, folder: folder, size: size, object: objectSize(flags)}
}

// Clone makes a child of a snapshot of the image.
func (g *Img) Clone(snapshot, spec, folder string, flags ...string) *Img {
	g.b.Rbd(append(append([]string{"clone"}, flags...), g.spec+"@"+snapshot, spec)...)
	return &Img{b: g.b, spec: spec, folder: folder, size: g.size, object: objectSize(flags)}
}

// objectSize finds --object-size among the flags, in rbd's K and M.
func objectSize(flags []string) int64 {
	i := slices.Index(flags, "--object-size")
	if i < 0 {
		return defaultObject
	}
	text := flags[i+1]
	n, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if err != nil {
		return defaultObject
	}
	if text[len(text)-1] == 'K' {
		return n << 10
	}
	return n << 20
}

// Write changes the image.
func (g *Img) Write(extents ...Extent) {
	g.b.pipe(bytes.NewReader(encode(g.size, extents)), nil,
		[]string{"import-diff", "--no-progress", "-", g.spec})
}

// encode makes a diff v1 to HEAD from HEAD.
func encode(size int64, extents []Extent) []byte {
	out := binary.LittleEndian.AppendUint64([]byte("rbd diff v1\ns"), uint64(size))
	for _, e := range extents {
		tag, length := byte('w'), int64(len(e.Data))
		if e.Zeros != 0 {
			tag, length = 'z', e.Zeros
		}
		out = binary.LittleEndian.AppendUint64(append(out, tag), uint64(e.Off))
		out = append(binary.LittleEndian.AppendUint64(out, uint64(length)), e.Data...)
	}
	return append(out, 'e')
}

// Fill writes random bytes to [off, off+n).
func (g *Img) Fill(off, n int64) {
	data := make([]byte, n)
	// A ChaCha8's Read never fails.
	_, _ = io.ReadFull(g.b.random, data)
	g.Write(Extent{Off: off, Data: data})
}

// Scatter makes n random writes, times Scale.Writes, one in five of zeros, and
// some of bytes with long runs of zeros in them.
func (g *Img) Scatter(n int) {
	var extents []Extent
	for range n * g.b.Scale.Writes {
		if e, ok := g.extent(); ok {
			extents = append(extents, e)
		}
	}
	g.Write(extents...)
}

func (g *Img) extent() (Extent, bool) {
	off := g.b.between(0, g.size)
	if head := g.b.Scale.Head; head != 0 {
		off = off/g.object*g.object + g.b.between(0, head)
	}
	length := min(g.b.between(1, g.b.Scale.Extent+1), g.size-off)
	if length <= 0 {
		return Extent{}, false
	}
	kind := g.b.between(0, 10)
	if kind < 2 {
		return Extent{Off: off, Zeros: length}, true
	}
	data := make([]byte, length)
	_, _ = io.ReadFull(g.b.random, data)
	if kind == 2 {
		clear(data[length/4 : length/2])
	}
	return Extent{Off: off, Data: data}, true
}

// Resize grows or shrinks the image.
func (g *Img) Resize(size int64) {
	g.b.Rbd("resize", "--no-progress", "--allow-shrink", "--size", strconv.FormatInt(size, 10)+"B", g.spec)
	g.size = size
}

// Snap makes snapshots.
func (g *Img) Snap(names ...string) {
	for _, name := range names {
		g.b.Rbd("snap", "create", "--no-progress", g.at(name))
	}
}

// Do runs `rbd VERB... image@snapshot`, for example Do("s1", "snap", "protect").
func (g *Img) Do(snapshot string, verb ...string) {
	g.b.Rbd(append(verb, g.at(snapshot))...)
}

func (g *Img) at(snapshot string) string { return g.spec + "@" + snapshot }

// Full exports a snapshot as `rbd export-diff` to SNAPSHOT.diff.
func (g *Img) Full(snapshot string, flags ...string) {
	g.exportDiff(snapshot+".diff", g.at(snapshot), flags)
}

// Diff exports what changed between two snapshots to FROM..TO.diff.
func (g *Img) Diff(from, to string, flags ...string) {
	g.exportDiff(from+".."+to+".diff", g.at(to), append([]string{"--from-snap", from}, flags...))
}

// Chain exports the first snapshot in full and then each one from the one before.
func (g *Img) Chain(snapshots []string, flags ...string) {
	g.Full(snapshots[0], flags...)
	for i, to := range snapshots[1:] {
		g.Diff(snapshots[i], to, flags...)
	}
}

// DiffToHead exports what changed since a snapshot, without a snapshot at its
// end, to NAME.diff.
func (g *Img) DiffToHead(from, name string, flags ...string) {
	g.exportDiff(name+".diff", g.spec, append([]string{"--from-snap", from}, flags...))
}

func (g *Img) exportDiff(file, spec string, flags []string) {
	args := append([]string{"export-diff", "--no-progress"}, flags...)
	g.b.Rbd(append(args, spec, g.b.path(g.folder, file))...)
}

// Raw exports a snapshot as raw bytes to SNAPSHOT.EXT.
func (g *Img) Raw(snapshot, ext string) {
	g.b.Rbd("export", "--no-progress", g.at(snapshot), g.b.path(g.folder, snapshot+ext))
}

// Container exports the image with all its snapshots in format 2 to file.
func (g *Img) Container(file string) {
	g.b.Rbd("export", "--no-progress", "--export-format", "2", g.spec, g.b.path(g.folder, file))
}

// Expect records what `rbd export` says of the snapshots.
func (g *Img) Expect(snapshots ...string) {
	for _, name := range snapshots {
		g.b.expect(path.Join(g.b.folder, g.folder), name, g.at(name))
	}
}

// ExpectHead records what `rbd export` says of the image as it is now, which the
// tree shows under the given name.
func (g *Img) ExpectHead(name string) {
	g.b.expect(path.Join(g.b.folder, g.folder), name, g.spec)
}
