package fs

import (
	"context"
	"strings"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	jobsName  = ".jobs"
	jobEnding = ".json"
)

// jobsFolder is import/.jobs.
type jobsFolder struct{ node }

// jobAttr fills the attributes of what tells of imports: the user of these owns
// it.
func (n *node) jobAttr(out *fuse.Attr, mode uint32, mtime time.Time) {
	n.common(out, mode, mtime)
	out.Owner = fuse.Owner{Uid: *n.t.opts.ImportUID, Gid: *n.t.opts.ImportGID}
}

func (n *jobsFolder) fill(out *fuse.Attr) {
	mtime := n.t.root.since
	for _, report := range n.t.opts.Importer.Reports() {
		if report.ModTime.After(mtime) {
			mtime = report.ModTime
		}
	}
	n.jobAttr(out, folderMode, mtime)
}

// jobIno is the inode number of a job's file.
func (t *tree) jobIno(id string) uint64 { return makeIno(inoJob, t.imports.jobs.get(id), 0) }

// report finds a job's report.
func (t *tree) report(id string) (JobReport, bool) {
	for _, report := range t.opts.Importer.Reports() {
		if report.ID == id {
			return report, true
		}
	}
	return JobReport{}, false
}

var _ fusefs.NodeGetattrer = (*jobsFolder)(nil)

// Getattr gives the time of the newest report.
func (n *jobsFolder) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	return 0
}

var _ fusefs.NodeLookuper = (*jobsFolder)(nil)

// Lookup finds the jobs that are told of now.
func (n *jobsFolder) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	id, isJob := strings.CutSuffix(name, jobEnding)
	if !isJob {
		return nil, syscall.ENOENT
	}
	report, found := n.t.report(id)
	if !found {
		return nil, syscall.ENOENT
	}
	child := &jobNode{node: node{t: n.t}, id: id}
	child.fill(&out.Attr, report)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: n.t.jobIno(id)}), 0
}

var _ fusefs.NodeOpendirHandler = (*jobsFolder)(nil)

// OpendirHandle lists them.
func (n *jobsFolder) OpendirHandle(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	handle := &dirHandle{self: makeIno(inoRoot, serialJobs, 0), parent: n.t.importFolderIno("")}
	known := map[string]bool{}
	for _, report := range n.t.opts.Importer.Reports() {
		known[report.ID] = true
		handle.fixed = append(handle.fixed, fuse.DirEntry{
			Name: report.ID + jobEnding, Mode: syscall.S_IFREG, Ino: n.t.jobIno(report.ID),
		})
	}
	n.t.imports.jobs.keep(known)
	return handle, 0, 0
}

// jobNode is import/.jobs/<id>.json. It grows while the job runs, so reads go
// round the page cache, as they do for status.json.
type jobNode struct {
	node
	id string
}

func (n *jobNode) fill(out *fuse.Attr, report JobReport) {
	n.jobAttr(out, fileMode, report.ModTime)
	out.Size = uint64(max(report.Size, 0))
	out.Blocks = blocks(report.Size)
}

var _ fusefs.NodeGetattrer = (*jobNode)(nil)

// Getattr gives what an open would get now.
func (n *jobNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	report, found := n.t.report(n.id)
	if !found {
		return syscall.ESTALE
	}
	n.fill(&out.Attr, report)
	return 0
}

var _ fusefs.NodeOpener = (*jobNode)(nil)

// Open takes the report of now.
func (n *jobNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writes(flags) {
		return nil, 0, syscall.EROFS
	}
	text, found := n.t.opts.Importer.Report(n.id)
	if !found {
		return nil, 0, syscall.ESTALE
	}
	return textHandle(text), fuse.FOPEN_DIRECT_IO, 0
}
