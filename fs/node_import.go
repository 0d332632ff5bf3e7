package fs

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"rbdbackupfs/internal/target"
)

// Modes in import/. The group gets what the owner has only where it was named.
const (
	importFolderMode = 0o700
	importFileMode   = 0o600
	importGroupShift = 3
)

// importAttr fills the attributes of what can be written to.
func (n *node) importAttr(out *fuse.Attr, mode uint32, mtime time.Time) {
	if n.t.opts.importGroup {
		mode |= mode >> importGroupShift
	}
	n.common(out, mode, mtime)
	out.Owner = fuse.Owner{Uid: *n.t.opts.ImportUID, Gid: *n.t.opts.ImportGID}
}

// importFolder is import/ itself, a pool, or a namespace of one.
type importFolder struct {
	node
	pool, namespace string
}

// path is below import/.
func (n *importFolder) path() string {
	if n.namespace == "" {
		return n.pool
	}
	return n.pool + "/" + n.namespace
}

// importFolderIno is the inode number of the folder at a path below import/.
func (t *tree) importFolderIno(path string) uint64 {
	if path == "" {
		return makeIno(inoRoot, serialImport, 0)
	}
	return makeIno(inoImportFolder, t.imports.folders.get(path), 0)
}

func (n *importFolder) fill(out *fuse.Attr) { n.importAttr(out, importFolderMode, n.t.root.since) }

var (
	_ fusefs.NodeGetattrer = (*importFolder)(nil)
	_ fusefs.NodeSetattrer = (*importFolder)(nil)
	_ fusefs.NodeAccesser  = (*importFolder)(nil)
)

// Getattr needs no look at the target.
func (n *importFolder) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(&out.Attr)
	return 0
}

// Setattr changes nothing. It succeeds, as it does for files: rsync -a and cp -a
// of a folder take anything else for a failure of the whole.
func (n *importFolder) Setattr(
	_ context.Context, _ fusefs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	n.fill(&out.Attr)
	return 0
}

// Access is asked only where the owner of the mount alone gets in.
func (*importFolder) Access(context.Context, uint32) syscall.Errno { return 0 }

var _ fusefs.NodeLookuper = (*importFolder)(nil)

// Lookup finds folders and running jobs. An image of the target is not found: so
// it can be restored onto by programs that want to create their file, and nothing
// that removes files can reach it.
func (n *importFolder) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	switch {
	case n.pool == "" && name == jobsName:
		return n.newJobs(ctx, out), 0
	case strings.HasPrefix(name, "."):
		return nil, syscall.ENOENT
	}
	call, end := n.t.patient(ctx)
	defer end()
	if n.pool == "" {
		// A pool can be there though the list of all doesn't show it.
		if _, err := n.t.opts.Importer.Namespaces(call, name); err != nil {
			return nil, target.ErrnoOf(err)
		}
		return n.newFolder(ctx, name, "", out), 0
	}
	if f := n.t.importing(ctx, n.image(name)); f != nil {
		f.fill(&out.Attr)
		return n.NewInode(ctx, f, f.stable()), 0
	}
	if n.namespace != "" {
		return nil, syscall.ENOENT
	}
	namespaces, err := n.t.opts.Importer.Namespaces(call, n.pool)
	if err != nil {
		return nil, target.ErrnoOf(err)
	}
	if !slices.Contains(namespaces, name) {
		return nil, syscall.ENOENT
	}
	return n.newFolder(ctx, n.pool, name, out), 0
}

// image is the image that an entry of this folder stands for.
func (n *importFolder) image(name string) target.Name {
	return target.Name{Pool: n.pool, Namespace: n.namespace, Image: name}
}

func (n *importFolder) newFolder(ctx context.Context, pool, namespace string, out *fuse.EntryOut) *fusefs.Inode {
	child := &importFolder{node: node{t: n.t}, pool: pool, namespace: namespace}
	child.fill(&out.Attr)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: n.t.importFolderIno(child.path())})
}

func (n *importFolder) newJobs(ctx context.Context, out *fuse.EntryOut) *fusefs.Inode {
	child := &jobsFolder{node: node{t: n.t}}
	child.fill(&out.Attr)
	return n.NewInode(ctx, child, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: makeIno(inoRoot, serialJobs, 0)})
}

var _ fusefs.NodeOpendirHandler = (*importFolder)(nil)

// OpendirHandle lists folders and running jobs.
func (n *importFolder) OpendirHandle(ctx context.Context, _ uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	call, end := n.t.patient(ctx)
	defer end()
	handle := &dirHandle{self: n.t.importFolderIno(n.path()), parent: n.parentIno()}
	var folders []string
	var err error
	prefix := ""
	switch {
	case n.pool == "":
		folders, err = n.t.opts.Importer.Pools(call)
		handle.fixed = append(handle.fixed, fuse.DirEntry{
			Name: jobsName, Mode: syscall.S_IFDIR, Ino: makeIno(inoRoot, serialJobs, 0),
		})
	case n.namespace == "":
		folders, err = n.t.opts.Importer.Namespaces(call, n.pool)
		prefix = n.pool + "/"
	}
	if err != nil {
		return nil, 0, target.ErrnoOf(err)
	}
	for _, name := range folders {
		ino := n.t.importFolderIno(prefix + name)
		handle.fixed = append(handle.fixed, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR, Ino: ino})
	}
	if n.pool != "" {
		handle.fixed = append(handle.fixed, n.files()...)
	}
	return handle, 0, 0
}

// files are the running jobs in this folder, sorted.
func (n *importFolder) files() []fuse.DirEntry {
	var entries []fuse.DirEntry
	for _, f := range n.t.imports.within(n.pool, n.namespace) {
		entries = append(entries, fuse.DirEntry{Name: f.name.Image, Mode: syscall.S_IFREG, Ino: f.stable().Ino})
	}
	slices.SortFunc(entries, func(a, b fuse.DirEntry) int { return cmp.Compare(a.Name, b.Name) })
	return entries
}

// parentIno is the inode number of "..".
func (n *importFolder) parentIno() uint64 {
	switch {
	case n.pool == "":
		return makeIno(inoRoot, serialRoot, 0)
	case n.namespace == "":
		return n.t.importFolderIno("")
	default:
		return n.t.importFolderIno(n.pool)
	}
}

var _ fusefs.NodeMkdirer = (*importFolder)(nil)

// Mkdir makes a pool or a namespace, where the target can.
func (n *importFolder) Mkdir(
	ctx context.Context, name string, _ uint32, out *fuse.EntryOut,
) (*fusefs.Inode, syscall.Errno) {
	switch {
	case n.namespace != "":
		return nil, syscall.EROFS
	case strings.HasPrefix(name, "."):
		return nil, syscall.EINVAL
	}
	pool, namespace := n.pool, name
	if pool == "" {
		pool, namespace = name, ""
	}
	call, end := n.t.patient(ctx)
	defer end()
	if err := n.t.opts.Importer.MakeFolder(call, pool, namespace); err != nil {
		return nil, target.ErrnoOf(err)
	}
	return n.newFolder(ctx, pool, namespace, out), 0
}

var _ fusefs.NodeCreater = (*importFolder)(nil)

// Create begins a restore.
func (n *importFolder) Create(
	ctx context.Context, name string, flags, _ uint32, out *fuse.EntryOut,
) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	switch {
	case n.pool == "":
		return nil, nil, 0, syscall.EROFS
	case strings.HasPrefix(name, "."):
		n.t.imports.dotted.Do(func() {
			n.t.opts.Logger.Warn("a temporary file was refused in import/: rsync needs --inplace there",
				slog.String("name", name))
		})
		return nil, nil, 0, syscall.EINVAL
	case flags&syscall.O_ACCMODE == syscall.O_RDONLY:
		return nil, nil, 0, syscall.EACCES
	}
	call, end := n.t.patient(ctx)
	defer end()
	image := n.image(name)
	job, err := n.t.opts.Importer.Start(call, image)
	if err != nil {
		return nil, nil, 0, target.ErrnoOf(err)
	}
	f := newImportFile(ctx, n.t, image, job)
	f.fill(&out.Attr)
	handle := &importHandle{f}
	n.t.register(handle)
	inode := n.NewInode(ctx, f, f.stable())
	n.t.imports.add(f) // a lookup may return it from here on
	return inode, handle, fuse.FOPEN_DIRECT_IO, 0
}
