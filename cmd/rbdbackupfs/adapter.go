package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rbdbackupfs/ceph"
	"rbdbackupfs/chain"
	"rbdbackupfs/fs"
	"rbdbackupfs/index"
	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/internal/layout"
	"rbdbackupfs/internal/packed"
	"rbdbackupfs/internal/target"
	"rbdbackupfs/internal/treename"
	"rbdbackupfs/repo"
	"rbdbackupfs/restore"
)

// detachPatience is how long fusermount3 may take.
const detachPatience = 30 * time.Second

// The real packages behind the interfaces of engine.go.

func realBackend() backend { return packages{} }

type packages struct{}

func (packages) OpenRepo(dir string, o repoOptions) (repository, error) {
	r, err := repo.Open(dir, repo.Options{Logger: o.Log, Rescan: o.Rescan, Only: o.Only})
	if err != nil {
		return nil, err
	}
	return openedRepo{r}, nil
}

func (packages) CheckOverlap(places ...place) error {
	var all []fs.Place
	for _, p := range places {
		all = append(all, fs.Place{Name: p.name, Path: p.path})
	}
	return fs.CheckOverlap(all...)
}

func (packages) CheckTree(o treeOptions) error { return o.options("").Check() }

func (packages) Umount(mountpoint string) error { return fs.Umount(mountpoint) }

func (packages) Detach(mountpoint string) error {
	if os.Geteuid() == 0 {
		return os.NewSyscallError("umount2", unix.Unmount(mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachPatience)
	defer cancel()
	said, err := exec.CommandContext(ctx, "fusermount3", "-u", "-z", "--", mountpoint).CombinedOutput()
	if err != nil {
		return &daemon.Error{Op: "detach", Path: mountpoint, Hint: strings.TrimSpace(string(said)), Err: err}
	}
	return nil
}

func (packages) OpenTarget(ctx context.Context, where targetURL, log *slog.Logger) (target.Target, error) {
	switch where.kind {
	case kindCeph:
		t, err := ceph.OpenTarget(ctx, where.ceph, target.Layout{}, log)
		if said := (*ceph.Error)(nil); errors.As(err, &said) {
			return nil, said // it names the cluster by itself
		}
		if err != nil {
			return nil, err
		}
		return t, nil
	case kindFile:
		t, _, err := restore.SingleFile(where.path)
		return t, err
	}
	t, err := restore.OpenFolder(where.path)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (packages) CephVersion() string {
	version, err := ceph.Version()
	if err != nil {
		return "" // not built in
	}
	return version
}

type openedRepo struct{ *repo.Repo }

func (r openedRepo) Open(o libraryOptions, log *slog.Logger) (library, error) {
	config := o.Layout.Config
	config.Root = filepath.Base(r.Root())
	rules, err := layout.New(config)
	if err != nil {
		return nil, err
	}
	ix, err := index.Open(o.Index, index.Options{Repo: r.Root(), Logger: log})
	if err != nil {
		return nil, err
	}
	cache, err := o.openCache()
	if err != nil {
		return nil, errors.Join(err, ix.Close())
	}
	lib, err := chain.Open(chain.Options{
		Repo: r.Repo, Index: ix, Cache: cache, Layout: rules, Links: o.Layout.Links, TrustNames: o.Layout.TrustNames, Given: o.Given, Logger: log,
	})
	if err != nil {
		return nil, errors.Join(err, cache.Close(), ix.Close())
	}
	return openedLibrary{Library: lib, index: ix, cache: cache, root: r.Root()}, nil
}

func (o libraryOptions) openCache() (*packed.Cache, error) {
	if o.CacheIn != "" {
		// Where none can be made reads are slow, and nothing worse.
		if cache, err := packed.NewTempCache(o.CacheIn, o.CacheSize); err == nil {
			return cache, nil
		}
	}
	return packed.NewCache(o.Cache, o.CacheSize)
}

type openedLibrary struct {
	*chain.Library
	index *index.Index
	cache *packed.Cache
	root  string
}

func (l openedLibrary) Close() error {
	return errors.Join(l.Library.Close(), l.cache.Close(), l.index.Close())
}

func (l openedLibrary) Mount(mountpoint string, o treeOptions) (tree, error) {
	server, err := fs.Mount(mountpoint, fs.FromChain(l.Library), o.options(l.root))
	if err != nil {
		return nil, err
	}
	return server, nil
}

func (o treeOptions) options(root string) fs.Options {
	return fs.Options{
		FsName: root, AllowOther: o.AllowOther, UID: o.UID, GID: o.GID, Umask: o.Umask, Extra: o.Extra,
		LookupWait: o.LookupWait, ReadAheadKB: o.ReadAhead, Status: o.Status, Logger: o.Log,
		Scratch: o.Scratch, Importer: o.Importer, ImportUID: o.ImportUID, ImportGID: o.ImportGID,
	}
}

// treeFolder is the folder of an image below the mountpoint.
func treeFolder(image string) string { return treeFolderIn("images", image) }

// treeFolderIn is the same in another part of the tree.
func treeFolderIn(part, image string) string {
	path := part
	for component := range strings.SplitSeq(image, "/") {
		path += "/" + treename.EncodeComponent(component)
	}
	return path
}

// treePath is the file of a snapshot below the mountpoint.
func treePath(s *chain.Snapshot) string {
	return treeFolder(s.Image) + "/" + treename.ImageFile(s.Name, s.Of)
}

// hint is what to do about err, where its message doesn't say it already.
func hint(err error) string {
	if e := (*daemon.Error)(nil); errors.As(err, &e) {
		return e.Hint
	}
	if e := (*repo.Error)(nil); errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
