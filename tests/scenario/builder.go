// Package scenario makes backups with the real rbd: it creates images in a Ceph
// cluster, changes, resizes, clones and snapshots them, and exports them in
// every way that rbd has. What `rbd export` says about each snapshot is kept
// beside the backups as the truth to compare with.
//
//	Case -> Builder -> rbd import-diff, snap, resize   the image changes
//	               \-> rbd export-diff, export         files in the repository
//	               \-> rbd export -                     Expect: sha256 and size
//
// Images are written through `rbd import-diff -`, with diffs that this package
// encodes itself: of rbd's commands it is the one that writes chosen bytes at
// chosen offsets, and that zeroes exactly. Everything that ends up in a backup
// is then rbd's own output.
//
// A case is deterministic: the same cluster release makes the same files.
package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Scale says how large a case is made. The zero value is not valid.
type Scale struct {
	// Factor multiplies the size of images.
	Factor int64
	// Writes multiplies how many extents a random change has.
	Writes int
	// Extent is the length of the longest random write, bytes.
	Extent int64
	// Head, when not zero, keeps random writes in the first so many bytes of each
	// object: objects then stay short, and so do exports.
	Head int64
	// Seed varies the contents.
	Seed uint64
}

// Small is for fixtures that are committed.
func Small() Scale { return Scale{Factor: 1, Writes: 1, Extent: 1500, Head: 4096} }

// Large is for live tests: random extents of any alignment all over the image.
func Large(seed uint64) Scale {
	return Scale{Factor: 8, Writes: 4, Extent: 300_000, Seed: seed}
}

// An Expect is what the mounted repository must show of one snapshot.
type Expect struct {
	Image    string // the image's name in the tree: the folder of its files
	Snapshot string // the snapshot's name in the tree
	SHA256   string // of `rbd export`, hex
	Size     int64  // bytes
	Spec     string // what was exported: pool/image@snapshot
}

// A Builder makes one case. Its methods, and those of its images, do nothing
// after the first error, which Err returns.
type Builder struct {
	Scale Scale

	ctx     context.Context
	conf    string
	repo    string
	folder  string
	random  *rand.ChaCha8
	expects []Expect
	err     error
}

// NewBuilder returns a builder that works in the cluster of the ceph.conf and
// writes backup files below repo/folder.
func NewBuilder(ctx context.Context, conf, repo, folder string, scale Scale) *Builder {
	seed := sha256.Sum256(fmt.Append(nil, folder, scale.Seed))
	return &Builder{
		Scale: scale, ctx: ctx, conf: conf, repo: repo, folder: folder,
		random: rand.NewChaCha8(seed),
	}
}

// Err returns the first error.
func (b *Builder) Err() error { return b.err }

// Expects returns what the repository must show, in the order it was asked for.
func (b *Builder) Expects() []Expect { return b.expects }

// Rbd runs rbd with arguments that are to succeed.
func (b *Builder) Rbd(args ...string) { b.pipe(nil, nil, args) }

// pipe runs rbd with the given standard input and output.
func (b *Builder) pipe(stdin io.Reader, stdout io.Writer, args []string) {
	if b.err != nil {
		return
	}
	cmd := exec.CommandContext(b.ctx, "rbd", append([]string{"-c", b.conf}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.err = fmt.Errorf("rbd %s: %w: %s", strings.Join(args, " "), errors.Join(err, b.ctx.Err()), &stderr)
	}
}

// between returns a random number in [low, high).
func (b *Builder) between(low, high int64) int64 {
	return low + rand.New(b.random).Int64N(max(1, high-low))
}

// path returns the path of a backup file of the case and makes its folder.
func (b *Builder) path(folder, name string) string {
	dir := filepath.Join(b.repo, b.folder, folder)
	if b.err == nil {
		b.err = os.MkdirAll(dir, 0o755)
	}
	return filepath.Join(dir, name)
}

// Merge joins two diffs of the image, each named by its file, with rbd merge-diff,
// and removes them.
func (b *Builder) Merge(img *Img, first, second, to string) {
	one, two := b.path(img.folder, first), b.path(img.folder, second)
	b.Rbd("merge-diff", "--no-progress", one, two, b.path(img.folder, to))
	if b.err == nil {
		b.err = errors.Join(os.Remove(one), os.Remove(two))
	}
}

// expect records what `rbd export` says of spec.
func (b *Builder) expect(image, snapshot, spec string) {
	sum := newCounter()
	b.pipe(nil, sum, []string{"export", "--no-progress", spec, "-"})
	b.expects = append(b.expects, Expect{
		Image: image, Snapshot: snapshot, SHA256: sum.String(), Size: sum.size, Spec: spec,
	})
}

// counter hashes and counts what is written to it.
type counter struct {
	hash.Hash
	size int64
}

func newCounter() *counter { return &counter{Hash: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.Hash.Write(p)
}

func (c *counter) String() string { return hex.EncodeToString(c.Sum(nil)) }
