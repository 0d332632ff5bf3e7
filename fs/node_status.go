package fs

import (
	"bytes"
	"context"
	"encoding/json"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/chain"
)

// marshalStatus is status.json where the caller of Mount gives no other.
func marshalStatus(status chain.Status) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(status); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// statusNode is status.json. Each open has the status of that moment, and what
// stat says is the size of another moment: so reads go round the page cache,
// which would cut them at that size.
type statusNode struct{ node }

func (n *statusNode) fill(out *fuse.Attr) syscall.Errno {
	content, err := n.t.status()
	if err != nil {
		return n.t.errno("stat", location{snapshot: statusName, offset: -1}, err)
	}
	n.common(out, fileMode, n.t.opts.Clock.Now())
	out.Size = uint64(len(content))
	out.Blocks = blocks(int64(len(content)))
	return 0
}

var _ fusefs.NodeGetattrer = (*statusNode)(nil)

// Getattr gives the size that an open would get now.
func (n *statusNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.fill(&out.Attr)
}

var _ fusefs.NodeOpener = (*statusNode)(nil)

// Open takes the status of now.
func (n *statusNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writes(flags) {
		return nil, 0, syscall.EROFS
	}
	content, err := n.t.status()
	if err != nil {
		return nil, 0, n.t.errno("open", location{snapshot: statusName, offset: -1}, err)
	}
	return textHandle(content), fuse.FOPEN_DIRECT_IO, 0
}

// textHandle is what a file said when it was opened.
type textHandle []byte

var _ fusefs.FileReader = textHandle(nil)

// Read returns what is left from off.
func (h textHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off >= int64(len(h)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, h[off:])]), 0
}
