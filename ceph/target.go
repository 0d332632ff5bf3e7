//go:build cgo && !noceph

package ceph

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"rbdbackupfs/internal/target"
)

// answerLimit is how long an operation on an object may take when the user's
// configuration doesn't say: librados itself waits for ever. That an OSD is gone,
// and another in its place, takes a cluster about half of it.
const answerLimit = time.Minute

// discardLimit bounds the removal of an image that was just made.
const discardLimit = 30 * time.Second

// A Target restores images into the pools of a cluster.
type Target struct {
	conn     *Conn
	cfg      Config
	defaults target.Layout
	log      *slog.Logger
}

var _ target.Target = (*Target)(nil)

// OpenTarget connects to the cluster of cfg, to restore images there. What a
// layout leaves open is taken from defaults, and of those the features from
// rbdbackupfs' own: layering, exclusive-lock, object-map, fast-diff, deep-flatten.
// The caller closes the Target. Errors are those of Connect and CheckFeatures.
func OpenTarget(ctx context.Context, cfg Config, defaults target.Layout, log *slog.Logger) (*Target, error) {
	defaults = withDefaults(defaults, target.Layout{})
	if _, err := checkLayout(defaults); err != nil {
		return nil, err
	}
	conn, err := Connect(ctx, cfg)
	if err != nil {
		return nil, &target.Error{Op: "open", Name: targetURL(cfg), Errno: target.ErrnoOf(err), Err: err}
	}
	if err := tune(conn.rados); err != nil {
		return nil, errors.Join(failure("open", targetURL(cfg), err), conn.Close())
	}
	return &Target{conn: conn, cfg: cfg, defaults: defaults, log: log}, nil
}

// tune sets what suits a restore. A user's own timeouts stay.
func tune(handle *rados.Conn) error {
	limit := strconv.Itoa(int(answerLimit / time.Second))
	for _, option := range []string{"rados_osd_op_timeout", "rados_mon_op_timeout"} {
		value, err := handle.GetConfigOption(option)
		if err != nil {
			return err
		}
		if now, err := strconv.ParseFloat(strings.TrimSuffix(value, "s"), 64); err == nil && now > 0 {
			continue
		}
		if err := handle.SetConfigOption(option, limit); err != nil {
			return err
		}
	}
	// What is written once, in large pieces, gains nothing from a cache. Without it
	// what WriteAt has written is in the cluster, and its errors are WriteAt's own.
	return handle.SetConfigOption("rbd_cache", "false")
}

// targetURL is the target as a user names it.
func targetURL(cfg Config) string {
	query := url.Values{}
	for _, part := range []struct{ key, value string }{
		{"cluster", cfg.Cluster}, {"conf", cfg.Conf}, {"user", cfg.User},
	} {
		if part.value != "" {
			query.Set(part.key, part.value)
		}
	}
	if len(query) == 0 {
		return "ceph:"
	}
	return "ceph:?" + strings.ReplaceAll(query.Encode(), "%2F", "/")
}

// String is the target as the user named it, such as "ceph:?conf=/etc/ceph/b.conf".
func (t *Target) String() string { return targetURL(t.cfg) }

// Pools are those that are meant for images; all, if there are none such.
func (t *Target) Pools(ctx context.Context) ([]string, error) {
	if names, err := t.rbdPools(ctx); err == nil && len(names) > 0 {
		return names, nil
	}
	// The user may not ask for the applications, or nobody has named any.
	names, err := ask(ctx, t.conn, t.conn.rados.ListPools, nil)
	slices.Sort(names)
	return names, failure("list pools", "", err)
}

func (t *Target) rbdPools(ctx context.Context) ([]string, error) {
	reply, err := t.conn.monCommand(ctx, `{"prefix":"osd pool ls","detail":"detail","format":"json"}`)
	if err != nil {
		return nil, err
	}
	var pools []struct {
		Name         string                     `json:"pool_name"`
		Applications map[string]json.RawMessage `json:"application_metadata"`
	}
	if err := json.Unmarshal(reply, &pools); err != nil {
		return nil, err
	}
	var names []string
	for _, pool := range pools {
		if _, ok := pool.Applications["rbd"]; ok {
			names = append(names, pool.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Namespaces are those of a pool.
func (t *Target) Namespaces(ctx context.Context, pool string) ([]string, error) {
	names, err := inPool(ctx, t.conn, target.Name{Pool: pool}, rbd.NamespaceList)
	slices.Sort(names)
	return names, failure("list namespaces", pool, err)
}

// MakeFolder refuses: how a pool is made is a decision about the cluster, and the
// users of backups seldom may.
func (t *Target) MakeFolder(ctx context.Context, pool, namespace string) error {
	name := target.Name{Pool: pool, Namespace: namespace}
	_, err := inPool(ctx, t.conn, name, func(*rados.IOContext) (struct{}, error) { return struct{}{}, nil })
	refusal := &target.Error{Op: "make folder", Name: pool, Errno: syscall.EPERM}
	switch {
	case err == nil:
		refusal.Errno = syscall.EEXIST
	case errnoOf(err) != syscall.ENOENT:
		return failure(refusal.Op, pool, err)
	case namespace != "":
		refusal.Name += "/" + namespace
		refusal.Err = errors.New("namespaces are made with Ceph's own commands")
		refusal.Hint = fmt.Sprintf("Run `rbd namespace create %s/%s`", pool, namespace)
	default:
		refusal.Err = errors.New("pools are made with Ceph's own commands")
		refusal.Hint = fmt.Sprintf("Run `ceph osd pool create %s && rbd pool init %s`", pool, pool)
	}
	return refusal
}

// Exists tells whether there is an image of that name.
func (t *Target) Exists(ctx context.Context, name target.Name) (bool, error) {
	// The context of the pool comes first, so that its absence can be told apart.
	found, err := inPool(ctx, t.conn, name, func(io *rados.IOContext) (bool, error) {
		return imageExists(io, name.Image)
	})
	return found, failure("look up", name.String(), err)
}

func imageExists(io *rados.IOContext, image string) (bool, error) {
	img, err := rbd.OpenImageReadOnly(io, image, rbd.NoSnapshot)
	if errnoOf(err) == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, img.Close()
}

// temporary is the name under which a new image grows.
func temporary(job *target.Job) target.Name {
	name := job.Image
	name.Image = "rbdbackupfs-import-" + job.ID
	return name
}

// Create makes a new image under its temporary name, and locks it.
func (t *Target) Create(ctx context.Context, job *target.Job, size int64, l target.Layout) (target.Image, error) {
	const op = "create"
	shown := job.Image.String()
	l = withDefaults(l, t.defaults)
	mask, err := checkLayout(l)
	if err != nil {
		return nil, err
	}
	name := temporary(job)
	// What a create that was left behind still makes is removed by Recover.
	_, err = inPool(ctx, t.conn, name, func(io *rados.IOContext) (struct{}, error) {
		// librbd removes an image by way of the pool's trash. Should the pool be full
		// by then, it must be there already: that takes an object.
		if err := io.Create("rbd_trash", rados.CreateIdempotent); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, create(io, name.Image, uint64(size), l, mask)
	})
	if err != nil {
		return nil, failure(op, shown, err)
	}
	im, err := t.opened(ctx, job, name, toWrite)
	if err == nil {
		im.created = true
		err = im.claim(ctx)
	}
	if err == nil {
		err = im.setMeta(ctx, l.Meta)
	}
	if err != nil {
		return nil, errors.Join(failure(op, shown, err), t.discard(ctx, im, name))
	}
	return im, nil
}

// discard removes what Create made, also when the context has ended. Should the
// cluster no longer answer, Recover has to.
func (t *Target) discard(ctx context.Context, im *image, name target.Name) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardLimit)
	defer cancel()
	if im != nil {
		_ = im.h.close()
	}
	return t.remove(ctx, name)
}

func create(io *rados.IOContext, name string, size uint64, l target.Layout, mask uint64) error {
	options := rbd.NewRbdImageOptions()
	defer options.Destroy()
	numbers := map[rbd.ImageOption]uint64{rbd.ImageOptionFeatures: mask}
	if l.Order != 0 {
		numbers[rbd.ImageOptionOrder] = uint64(l.Order)
	}
	if striped(l) {
		numbers[rbd.ImageOptionStripeUnit] = l.StripeUnit
		numbers[rbd.ImageOptionStripeCount] = l.StripeCount
	}
	for _, key := range slices.Sorted(maps.Keys(numbers)) {
		if err := options.SetUint64(key, numbers[key]); err != nil {
			return err
		}
	}
	if l.DataPool != "" {
		if err := options.SetString(rbd.ImageOptionDataPool, l.DataPool); err != nil {
			return fmt.Errorf("data pool %s: %w", l.DataPool, err)
		}
	}
	return rbd.CreateImage(io, name, size, options)
}

// setMeta writes the image-meta. librbd checks the settings among it.
func (im *image) setMeta(ctx context.Context, meta map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if key == "" {
			continue // librbd doesn't store it either
		}
		err := im.h.call(ctx, func(img *rbd.Image) error { return img.SetMetadata(key, meta[key]) })
		if errno := errnoOf(err); errno != 0 {
			return &target.Error{
				Op: "set image-meta", Name: im.String(), Errno: errno,
				Err: fmt.Errorf("%q = %q: %w", key, meta[key], errno),
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Open opens an image, to look at it. Nobody sees it in use.
func (t *Target) Open(ctx context.Context, job *target.Job) (target.Image, error) {
	im, err := t.opened(ctx, job, job.Image, toLook)
	if err != nil {
		return nil, failure("open", job.Image.String(), err)
	}
	return im, nil
}

// Close ends the connection.
func (t *Target) Close() error { return t.conn.Close() }

// byID orders snapshots as they were made.
func byID(a, b rbd.SnapInfo) int { return cmp.Compare(a.Id, b.Id) }
