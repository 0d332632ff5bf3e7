package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rbdbackupfs/chain"
	"rbdbackupfs/rbddiff"
)

var errNoData = chain.ErrNoData

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>8) ^ byte(i)*31 ^ seed | 1
	}
	return p
}

func full(size int64) stepSpec {
	return stepSpec{to: "s1", size: size, extents: []extentSpec{{off: 5000, data: pattern(9000, 1)}}}
}

func TestRawAnyPiece(t *testing.T) {
	for _, piece := range []int{1, 7, 512, 13, 4096, 1 << 20} {
		b := newBench(t)
		content := pattern(20_011, 3)
		b.wants(b.put("vm", content, piece), 0, "")
		b.holds("vm", content)
		if r := b.last(); r.State != StateDone || r.Kind != KindRaw || r.Size != int64(len(content)) || r.Received != int64(len(content)) {
			t.Errorf("piece %d: %+v", piece, r)
		}
	}
}

// TestRawExists: EEXIST comes with the bytes that tell that it is a raw image.
func TestRawExists(t *testing.T) {
	b := newBench(t)
	b.wants(b.put("vm", pattern(100, 1), 100), 0, "")
	j := b.start("vm")
	defer j.Release()
	_, err := j.WriteAt(t.Context(), pattern(100, 2), 0)
	b.wants(err, syscall.EEXIST, "Choose another name")
	b.wants(j.Flush(t.Context(), false), syscall.EEXIST, "")
	b.holds("vm", pattern(100, 1))
}

// TestRawHoles: what cp skips is a hole, and the last truncate gives the length.
func TestRawHoles(t *testing.T) {
	b := newBench(t)
	const size = 64 << 30
	j := b.start("sparse")
	data := pattern(1<<20, 5)
	_, err := j.WriteAt(t.Context(), data, 32<<30)
	b.must(err)
	b.must(j.Truncate(t.Context(), size))
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	var st unix.Stat_t
	b.must(unix.Stat(b.path("sparse"), &st))
	if st.Size != size || st.Blocks*512 > 2<<20 {
		t.Errorf("%d bytes, %d allocated", st.Size, st.Blocks*512)
	}
	f, err := os.Open(b.path("sparse"))
	b.must(err)
	defer f.Close()
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, 32<<30); err != nil || !bytes.Equal(got, data) {
		t.Errorf("data differs, %v", err)
	}
}

// TestNothing: opening and closing makes nothing, as each `>` of a shell does.
func TestNothing(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	b.must(j.Truncate(t.Context(), 0))
	b.must(j.Flush(t.Context(), false))
	b.must(j.Sync(t.Context()))
	j.Release()
	<-j.Done()
	b.holds("vm", nil)
	if len(b.m.Reports()) != 0 {
		t.Errorf("%+v", b.m.Reports())
	}
}

// TestRawOnlyLength: a file that is one hole.
func TestRawOnlyLength(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	b.must(j.Truncate(t.Context(), 5000))
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	b.holds("vm", make([]byte, 5000))
}

// TestRawGoesOn: { a; b; } > f flushes in the middle.
func TestRawGoesOn(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	one, two := pattern(3000, 1), pattern(5000, 2)
	_, err := j.WriteAt(t.Context(), one, 0)
	b.must(err)
	b.must(j.Flush(t.Context(), false))
	b.holds("vm", one)
	_, err = j.WriteAt(t.Context(), two, 3000)
	b.must(err)
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	b.holds("vm", append(one, two...))
	if r := b.last(); r.State != StateDone {
		t.Errorf("%+v", r)
	}
}

// TestRawCut: what a truncate cuts doesn't come back.
func TestRawCut(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	content := pattern(10_000, 1)
	_, err := j.WriteAt(t.Context(), content, 0)
	b.must(err)
	b.must(j.Truncate(t.Context(), 4000))
	b.must(j.Truncate(t.Context(), 9000))
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	clear(content[4000:])
	b.holds("vm", content[:9000])
}

// TestKilled: whatever was written, nothing is committed for a killed writer.
func TestKilled(t *testing.T) {
	streams := map[string][]byte{
		"raw": pattern(9000, 1), "diff": diff(full(1 << 20)), "part": diff(full(1 << 20))[:5000],
		"export": encode(rbddiff.Container, full(1<<20), stepSpec{from: "s1", size: 1 << 20}), "few": []byte("abc"),
	}
	for name, content := range streams {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			j := b.start("vm")
			_, err := j.WriteAt(t.Context(), content, 0)
			b.must(err)
			b.must(j.Flush(t.Context(), true))
			j.Release()
			<-j.Done()
			b.holds("vm", nil)
			if r := b.last(); r.State != StateFailed || r.Error == "" {
				t.Errorf("%+v", r)
			}
			b.wants(b.put("vm", content[:min(len(content), 4000)], 4000), map[bool]syscall.Errno{true: syscall.EBADMSG}[name != "raw" && name != "few"], "")
		})
	}
}

// TestDiffs is the life of an image: full, increments, the mistakes between.
func TestDiffs(t *testing.T) {
	b := newBench(t)
	one := full(1 << 20)
	two := stepSpec{from: "s1", to: "s2", size: 700_000, extents: []extentSpec{
		{off: 6000, zeros: 3000}, {off: 100, data: pattern(70_000, 9)}, {off: 90, data: make([]byte, 50_000)},
	}}
	three := stepSpec{from: "s2", to: "s3", size: 900_000}
	b.wants(b.put("vm", diff(two), 999), syscall.ENOENT, "Restore the full export")
	b.wants(b.put("vm", diff(one), 999), 0, "")
	b.wants(b.put("vm", diff(one), 999), syscall.EEXIST, "s1")
	b.wants(b.put("vm", diff(three), 999), syscall.EINVAL, `no snapshot "s2"`)
	b.holds("vm", one.apply(nil))
	for _, piece := range []int{1, 1 << 20} {
		b.must(os.Remove(b.path("vm")))
		b.wants(b.put("vm", diff(one), piece), 0, "")
		b.wants(b.put("vm", diff(two), piece), 0, "")
		b.holds("vm", two.apply(one.apply(nil)))
	}
	b.wants(b.put("vm", diff(two), 999), syscall.EEXIST, "s2")
	b.wants(b.put("vm", diff(three), 999), 0, "")
	b.holds("vm", three.apply(two.apply(one.apply(nil))))
	if r := b.last(); r.From != "s2" || r.To != "s3" || r.Size != 900_000 || r.New {
		t.Errorf("%+v", r)
	}
}

// TestChangedImage: a diff onto what isn't its start would be garbage.
func TestChangedImage(t *testing.T) {
	b := newBench(t)
	one, two := full(1<<20), stepSpec{from: "s1", to: "s2", size: 1 << 20, extents: []extentSpec{{off: 0, data: pattern(10, 1)}}}
	b.wants(b.put("vm", diff(one), 999), 0, "")
	f, err := os.OpenFile(b.path("vm"), os.O_WRONLY, 0)
	b.must(err)
	_, err = f.WriteAt([]byte("changed"), 500)
	b.must(errors.Join(err, f.Close()))
	changed, err := os.ReadFile(b.path("vm"))
	b.must(err)
	b.wants(b.put("vm", diff(two), 999), syscall.EINVAL, "--force-import")
	b.holds("vm", changed)
	b.open(Options{Force: true})
	b.wants(b.put("vm", diff(two), 999), 0, "")
	b.holds("vm", two.apply(changed))
}

// TestFullOntoDummy: as rbd import-diff wants it, an empty image of any size.
func TestFullOntoDummy(t *testing.T) {
	b := newBench(t)
	b.must(os.MkdirAll(b.dir+"/rbd", 0o755))
	one := full(1 << 20)
	for _, size := range []int64{0, 1000, 8 << 20} {
		b.must(errors.Join(os.WriteFile(b.path("vm"), nil, 0o600), os.Truncate(b.path("vm"), size)))
		b.wants(b.put("vm", diff(one), 999), 0, "")
		b.holds("vm", one.apply(nil))
		b.must(os.Remove(b.path("vm")))
	}
	b.must(os.WriteFile(b.path("vm"), pattern(3000, 1), 0o600))
	b.wants(b.put("vm", diff(one), 999), syscall.EEXIST, "isn't empty")
	b.holds("vm", pattern(3000, 1))
}

// TestExport: all snapshots of a container, in a file that holds the head.
func TestExport(t *testing.T) {
	b := newBench(t)
	one := full(1 << 20)
	two := stepSpec{from: "s1", to: "s2", size: 2 << 20, extents: []extentSpec{{off: 1 << 20, data: pattern(4096, 4)}}}
	head := stepSpec{from: "s2", size: 2 << 20}
	b.wants(b.put("vm", encode(rbddiff.Container, one, two, head), 1000), 0, "")
	b.holds("vm", two.apply(one.apply(nil)))
	b.wants(b.put("vm", encode(rbddiff.Container, one, two, head), 1000), syscall.EEXIST, "the image exists")
	next := stepSpec{from: "s2", to: "s3", size: 2 << 20}
	b.wants(b.put("vm", diff(next), 1000), 0, "")
	head.extents = []extentSpec{{off: 0, data: pattern(10, 8)}}
	b.wants(b.put("other", encode(rbddiff.Container, one, two, head), 1000), 0, "")
	b.wants(b.put("other", diff(next), 1000), syscall.EINVAL, "no snapshot")
}

// TestStreamHoles: a sparse export file, copied by cp, has gaps that are zeros.
func TestStreamHoles(t *testing.T) {
	b := newBench(t)
	one := stepSpec{to: "s1", size: 1 << 20, extents: []extentSpec{{off: 0, data: append(make([]byte, 100_000), 1)}}}
	content := diff(one)
	j := b.start("vm")
	_, err := j.WriteAt(t.Context(), content[:60], 0)
	b.must(err)
	_, err = j.WriteAt(t.Context(), content[90_000:], 90_000)
	b.must(err)
	_, err = j.WriteAt(t.Context(), content[:1], int64(len(content)-5))
	b.wants(err, syscall.EBADMSG, "after the end")
	j.Release()
	<-j.Done()
	b.holds("vm", nil)
	j = b.start("vm")
	_, err = j.WriteAt(t.Context(), content[:60], 0)
	b.must(err)
	_, err = j.WriteAt(t.Context(), content[50:], 50)
	b.wants(err, syscall.ESPIPE, "in order")
	j.Release()
	<-j.Done()
	j = b.start("vm")
	_, err = j.WriteAt(t.Context(), content[:60], 0)
	b.must(err)
	_, err = j.WriteAt(t.Context(), content[90_000:], 90_000)
	b.must(err)
	b.must(j.Flush(t.Context(), false))
	j.Release()
	<-j.Done()
	b.holds("vm", one.apply(nil))
}

// TestBrokenStreams: EBADMSG, and nothing is left; nothing changed where an image
// was.
func TestBrokenStreams(t *testing.T) {
	good := diff(full(1 << 20))
	broken := map[string][]byte{
		"cut in a name": good[:20], "cut in data": good[:3000], "no end": good[:len(good)-1],
		"garbage": append(bytes.Clone(good[:len(good)-1]), 'q'), "trailing": append(bytes.Clone(good), 'e'),
		"two": append(bytes.Clone(good), good...), "banner": good[:5],
		"past the size": diff(stepSpec{to: "s1", size: 100, extents: []extentSpec{{off: 0, data: pattern(200, 1)}}}),
		"no size":       diff(stepSpec{to: "s1", size: -1, extents: []extentSpec{{off: 0, data: pattern(200, 1)}}}),
		"from late":     append(append(bytes.Clone(good[:len(good)-1]), "f\x01\x00\x00\x00x"...), 'e'),
	}
	for name, content := range broken {
		for _, piece := range []int{1, 1 << 20} {
			t.Run(fmt.Sprint(name, piece), func(t *testing.T) {
				b := newBench(t)
				b.wants(b.put("vm", content, piece), syscall.EBADMSG, "")
				b.holds("vm", nil)
				b.wants(b.put("vm", good, 1000), 0, "")
			})
		}
	}
	b := newBench(t)
	b.wants(b.put("vm", good, 1000), 0, "")
	two := diff(stepSpec{from: "s1", to: "s2", size: 1 << 10, extents: []extentSpec{{off: 0, data: pattern(500, 1)}}})
	b.wants(b.put("vm", two[:len(two)-1], 100), syscall.EBADMSG, "isn't whole")
	b.holds("vm", full(1<<20).apply(nil))
	b.wants(b.put("vm", two, 100), 0, "")
}

func TestRefusedFormats(t *testing.T) {
	b := newBench(t)
	b.open(Options{Folder: "/mnt/import"})
	for content, words := range map[string]string{
		"\x1f\x8b\x08\x00aaaaaaaaaaaa":               "gzip -dc FILE > /mnt/import/rbd/vm",
		"\x28\xb5\x2f\xfdaaaaaaaaaaaaaa":             "zstd -dc FILE > /mnt/import/rbd/vm",
		"QFI\xfb\x00\x00\x00\x03aaaaaaaaaaaaaaaaaaa": "qemu-img convert",
		"rbd diff v2\nxxxxxxxxxxxxxxxxxx":            "rbd export-diff",
	} {
		b.wants(b.put("vm", []byte(content), 100), syscall.EINVAL, words)
		b.holds("vm", nil)
	}
}

// TestSecondWriter: EBUSY while another one writes; one that has closed its file
// is waited for.
func TestSecondWriter(t *testing.T) {
	b := newBench(t)
	j := b.start("vm")
	_, err := j.WriteAt(t.Context(), pattern(100, 1), 0)
	b.must(err)
	_, err = b.m.Start(t.Context(), image("vm"))
	b.wants(err, syscall.EBUSY, "being written")
	b.must(j.Flush(t.Context(), false))
	// Somebody else may open it now; what is written waits for the release.
	second := make(chan error, 1)
	other := b.start("vm")
	go func() {
		_, err := other.WriteAt(context.Background(), pattern(100, 2), 0)
		second <- err
	}()
	_, err = b.m.Start(t.Context(), image("vm"))
	b.wants(err, syscall.EBUSY, "being written")
	select {
	case err := <-second:
		t.Errorf("it didn't wait: %v", err)
	default:
	}
	j.Release()
	b.wants(<-second, syscall.EEXIST, "")
	other.Release()
	<-other.Done()
	b.holds("vm", pattern(100, 1))
	for _, name := range []string{"", ".vm.Xy12", "a/b", "a@b", "\xff"} {
		_, err := b.m.Start(t.Context(), image(name))
		b.wants(err, syscall.EINVAL, "name")
	}
}

// TestCopyFrom takes a raw image by ranges, a stream too.
func TestCopyFrom(t *testing.T) {
	b := newBench(t)
	content := append(pattern(70_000, 1), make([]byte, 9<<20)...)
	copy(content[5<<20:], pattern(1<<20, 7))
	stream := diff(stepSpec{to: "s1", size: 10 << 20, extents: []extentSpec{{off: 1, data: content[:6<<20]}}})
	for name, c := range map[string][]byte{"raw": content, "diff": stream} {
		for _, piece := range []int64{3 << 20, 1 << 30} {
			_ = os.Remove(b.path(name))
			j := b.start(name)
			for at, size := int64(0), int64(len(c)); at < size; {
				n, err := j.CopyFrom(t.Context(), memorySource(c), at, at, min(piece, size-at))
				b.must(err)
				at += n
			}
			b.must(j.Flush(t.Context(), false))
			j.Release()
			<-j.Done()
			if name == "raw" {
				b.holds(name, content)
			} else {
				b.holds(name, stepSpec{size: 10 << 20, extents: []extentSpec{{off: 1, data: content[:6<<20]}}}.apply(nil))
			}
		}
	}
}
