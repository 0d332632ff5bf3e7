package fs

import (
	"context"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/target"
)

// importFile is import/<pool>/[<namespace>/]<image> while it is written, and for
// its writer a little longer. It is one job, which is opened once.
type importFile struct {
	node
	name   target.Name
	job    Import
	since  time.Time
	uid    uint32 // of who opened it
	serial uint64
	done   chan struct{}

	// calls is held for reading by calls into job that come without a handle, and
	// for writing by the release.
	calls sync.RWMutex

	mu       sync.Mutex
	threads  map[caller]bool // that have written
	groups   map[int]bool    // the processes of these
	flushed  bool            // since the last write
	released bool
	end      time.Time // when it was released
	size     int64     // then
	written  int64     // then
}

// newImportFile makes the file of a job that was started for a request.
func newImportFile(ctx context.Context, t *tree, name target.Name, job Import) *importFile {
	f := &importFile{
		node: node{t: t}, name: name, job: job, serial: t.imports.number(),
		since: t.opts.Clock.Now(), done: make(chan struct{}),
		threads: map[caller]bool{}, groups: map[int]bool{},
	}
	if from, known := fuse.FromContext(ctx); known {
		f.uid = from.Uid
	}
	f.wrote(callerOf(ctx))
	return f
}

func (n *importFile) stable() fusefs.StableAttr {
	return fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: makeIno(inoImportFile, n.serial, 0)}
}

// wrote notes who writes.
func (n *importFile) wrote(from caller) {
	n.mu.Lock()
	n.flushed = false
	known := n.threads[from]
	n.mu.Unlock()
	if known {
		return
	}
	group := from.group()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.threads[from] = true
	if group != 0 {
		n.groups[group] = true
	}
}

// writtenBy tells whether a process has written, or opened, the file.
func (n *importFile) writtenBy(from caller) bool {
	group := from.group()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.groups[group]
}

// endedAt is when the file was released.
func (n *importFile) endedAt() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.end
}

// endsSoon waits for the end of a file that was closed, and not written to since:
// its release may be on its way. It reports whether that came.
func (n *importFile) endsSoon(ctx context.Context) bool {
	n.mu.Lock()
	closed := n.flushed || n.released
	n.mu.Unlock()
	if !closed {
		return false
	}
	wait, cancel := n.t.opts.Clock.WithTimeout(ctx, releaseWait)
	defer cancel()
	select {
	case <-n.done:
		return true
	case <-wait.Done():
		return false
	}
}

// length is that of the file so far, or at its end.
func (n *importFile) length() (size, written int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.released {
		return n.size, n.written
	}
	return n.job.Length()
}

// fill gives the file to the user of import/. Where a whole group is let in, it
// is its writer's: only an owner may set times.
func (n *importFile) fill(out *fuse.Attr) {
	size, written := n.length()
	n.importAttr(out, importFileMode, n.since)
	if n.t.opts.importGroup {
		out.Uid = n.uid
	}
	out.Size = uint64(max(size, 0))
	out.Blocks = blocks(written)
}

var (
	_ fusefs.NodeGetattrer = (*importFile)(nil)
	_ fusefs.NodeSetattrer = (*importFile)(nil)
	_ fusefs.NodeAccesser  = (*importFile)(nil)
)

// Getattr gives the length so far.
func (n *importFile) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	return 0
}

// Setattr sets the length. Modes, owners and times are taken without an effect:
// an image has none, and cp -p, rsync, install and tar must not fail.
func (n *importFile) Setattr(
	ctx context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	if size, set := in.GetSize(); set {
		if errno := n.truncate(ctx, int64(size)); errno != 0 {
			return errno
		}
	}
	n.fill(&out.Attr)
	return 0
}

// truncate sets the length. It may come by name, and so after the end.
func (n *importFile) truncate(ctx context.Context, size int64) syscall.Errno {
	if size < 0 {
		return syscall.EFBIG
	}
	n.calls.RLock()
	defer n.calls.RUnlock()
	if n.isReleased() {
		if last, _ := n.length(); last == size {
			return 0
		}
		return syscall.ENOENT
	}
	n.wrote(callerOf(ctx))
	call, end := n.t.patient(ctx)
	defer end()
	return target.ErrnoOf(n.job.Truncate(call, size))
}

func (n *importFile) isReleased() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.released
}

// Access is asked only where the owner of the mount alone gets in.
func (*importFile) Access(_ context.Context, mask uint32) syscall.Errno {
	const execute = 1
	if mask&execute != 0 {
		return syscall.EACCES
	}
	return 0
}

var _ fusefs.NodeOpener = (*importFile)(nil)

// Open refuses a second writer. A file that has ended isn't opened again: ESTALE
// makes the kernel look the name up once more, and then create it anew.
func (n *importFile) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if !writes(flags) {
		return nil, 0, syscall.EACCES
	}
	if n.endsSoon(ctx) {
		n.t.imports.forget(n)
		return nil, 0, syscall.ESTALE
	}
	return nil, 0, syscall.EBUSY
}

var _ fusefs.NodeAllocater = (*importFile)(nil)

// Allocate makes the file longer at most. Making holes is left to those who
// write zeros then.
func (n *importFile) Allocate(ctx context.Context, _ fusefs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	switch {
	case mode&^unix.FALLOC_FL_KEEP_SIZE != 0:
		return syscall.EOPNOTSUPP
	case mode != 0:
		return 0
	}
	end := int64(off + size)
	if length, _ := n.length(); end >= 0 && end <= length {
		return 0
	}
	return n.truncate(ctx, end)
}

var _ fusefs.NodeFsyncer = (*importFile)(nil)

// Fsync makes durable what was written.
func (n *importFile) Fsync(ctx context.Context, _ fusefs.FileHandle, _ uint32) syscall.Errno {
	call, end := n.t.patient(ctx)
	defer end()
	return target.ErrnoOf(n.job.Sync(call))
}

// importHandle is the one time that an importFile is open.
type importHandle struct{ f *importFile }

var (
	_ fusefs.FileReader   = (*importHandle)(nil)
	_ fusefs.FileWriter   = (*importHandle)(nil)
	_ fusefs.FileFlusher  = (*importHandle)(nil)
	_ fusefs.FileReleaser = (*importHandle)(nil)
)

// Read refuses: what was written is on its way to the target.
func (*importHandle) Read(context.Context, []byte, int64) (fuse.ReadResult, syscall.Errno) {
	return nil, syscall.EOPNOTSUPP
}

// Write hands on one write(2), or a part of it. An interrupted one tells how much
// was taken.
func (h *importHandle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.f.wrote(callerOf(ctx))
	call, end := h.f.t.patient(ctx)
	defer end()
	n, err := h.f.job.WriteAt(call, data, off)
	if err != nil {
		return 0, target.ErrnoOf(err)
	}
	return uint32(n), 0
}

// Flush comes with each close(2) of a descriptor, and at the end of a process for
// those that it has left open. Whoever has the file open and starts a program has
// a copy of the descriptor closed there: a process that has written nothing has
// nothing to commit, least of all what another one is in the middle of.
func (h *importHandle) Flush(ctx context.Context) syscall.Errno {
	from := callerOf(ctx)
	if from.group() != 0 && !h.f.writtenBy(from) {
		return 0
	}
	call, end := h.f.t.patient(ctx)
	defer end()
	errno := target.ErrnoOf(h.f.job.Flush(call, from.killed()))
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.f.flushed = true
	return errno
}

// Release ends the job.
func (h *importHandle) Release(context.Context) syscall.Errno {
	if h.f.t.release(h) {
		h.end()
	}
	return 0
}

// end releases the job before its name: whoever finds the name free may start
// another.
func (h *importHandle) end() {
	n := h.f
	n.calls.Lock()
	defer n.calls.Unlock()
	size, written := n.job.Length()
	n.mu.Lock()
	n.released, n.end, n.size, n.written = true, n.t.opts.Clock.Now(), size, written
	n.mu.Unlock()
	n.job.Release()
	n.t.imports.finish(n)
	close(n.done)
}
