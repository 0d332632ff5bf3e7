package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"

	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/packed"
	"rbdbackupfs/internal/shellword"
	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

// A content is the bytes of an export: those of a backup file, or those that are
// packed in it.
type content struct {
	*repo.Handle
	ctx    context.Context //nolint:containedctx // io.ReaderAt has none; a content lives for one call
	cache  *packed.Cache
	packed *packed.Map // nil for a file that isn't packed
	where  string      // what commands in messages call the file

	scanned *atomic.Int64 // gets how far the file is read; nil where nobody asks
}

// A scanned file tells how far it is read.
type scanned struct {
	io.ReaderAt
	far *atomic.Int64
}

// ReadAt is that of the file.
func (s scanned) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	s.far.Store(off + int64(n))
	return n, err
}

// open opens a backup file as it was pinned. Release it soon.
func (l *Library) open(ctx context.Context, name string, pin repo.Pin, m *packed.Map) (*content, error) {
	h, err := l.repo.OpenFile(name, pin)
	if err != nil {
		return nil, err
	}
	return &content{Handle: h, ctx: ctx, cache: l.cache, packed: m, where: l.where(name)}, nil
}

// Size is that of the content.
func (c *content) Size() int64 {
	if c.packed == nil {
		return c.Handle.Size()
	}
	return c.packed.Size()
}

// ReadAt is that of repo.Handle.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if c.packed == nil {
		return c.Handle.ReadAt(p, off)
	}
	if err := c.cache.ReadAt(c.ctx, c.Handle, c.Handle.Size(), c.packed, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// NextData is that of repo.Handle.
func (c *content) NextData(off int64) (int64, error) {
	if c.packed == nil {
		return c.Handle.NextData(off)
	}
	return c.packed.NextData(off), nil
}

// NextHole is that of repo.Handle.
func (c *content) NextHole(off int64) (int64, error) {
	if c.packed == nil {
		return c.Handle.NextHole(off)
	}
	return c.packed.NextHole(off), nil
}

// packingOf tells how a file is packed, "" if it isn't: by its first bytes. Only
// for an archive its name counts as well, since an image may begin with one.
func packingOf(name string, format rbddiff.Format) (codec packed.Codec, inTar bool) {
	inner, inTar := layout.CutTar(path.Base(name))
	switch format {
	case rbddiff.Gzip, rbddiff.Zstd, rbddiff.LZ4, rbddiff.XZ, rbddiff.Bzip2:
		return packed.Codec(format.String()), inTar
	case rbddiff.Unknown:
		if inTar && len(inner)+len(".tar") == len(path.Base(name)) {
			return packed.Tar, true
		}
	}
	return "", false
}

// packedID names the content of a file: what is taken for an archive is decided by
// the file's name.
func packedID(name string, pin repo.Pin) string {
	id := fmt.Sprintf("%x-%x-%x", pin.Inode, pin.Size, pin.MTimeNs)
	if _, inTar := layout.CutTar(path.Base(name)); inTar {
		id += "-tar"
	}
	return id
}

// packedFault is the fault that an error of unpacking stands for; nil for one of
// the source.
func packedFault(where string, codec packed.Codec, err error) *fault {
	var e *packed.Error
	if !errors.As(err, &e) {
		return nil
	}
	f := &fault{kind: KindCorrupt, reason: fmt.Sprintf("is %s, and %s", codec, e.Reason), offset: e.Pos}
	switch {
	case errors.Is(e, packed.ErrIncomplete):
		f.kind = KindIncomplete
	case errors.Is(e, packed.ErrUnsupported):
		f.kind = KindUnsupported
	}
	f.cure = strings.ReplaceAll(e.Hint, "FILE", shellword.Word(where))
	if f.cure == "" {
		f.cure = "Copy the file again, or make the export again"
	}
	return f
}
