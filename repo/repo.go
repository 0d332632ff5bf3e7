package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultDescriptors is how many descriptors of files a Repo keeps open
// between reads.
const DefaultDescriptors = 512

// Options are the settings of Open. The zero value is usable.
type Options struct {
	// Logger gets what users should know of and no call returns. Default: nothing.
	Logger *slog.Logger
	// Clock is the system's by default.
	Clock Clock
	// Rescan is how long Watch waits between the end of one look at the whole
	// tree and the next. 0 is automatic: 5 minutes, or 30 seconds where changes
	// can go unnoticed (network file systems, inotify at its limits).
	Rescan time.Duration
	// Descriptors is how many files stay open between reads, DefaultDescriptors
	// when 0. More are open while more are in use at the same time.
	Descriptors int
	// Only are paths below the folder, as in File.Path; nothing else is looked at
	// then. Names that are usually left alone count, since somebody named them.
	// nil: the whole tree.
	Only []string
}

// A Repo is a folder tree with backup files. Its methods can be called from
// any number of goroutines. Close it at the end.
type Repo struct {
	path  string // absolute, without symbolic links
	id    string
	log   *slog.Logger
	clock Clock
	start time.Time
	every time.Duration // Options.Rescan
	only  only          // nil: everything
	cache *cache

	root      atomic.Pointer[root] // nil: vanished, or closed
	swapping  sync.Mutex           // one look at the path at a time; guards closed
	closed    bool
	populated atomic.Bool // files were found at least once
}

// Open prepares to use the folder dir. Its error is an *Error that wraps what the
// system says.
func Open(dir string, o Options) (*Repo, error) {
	path, err := resolve(dir)
	if err != nil {
		return nil, &Error{Op: "open repository", Path: dir, Hint: "name a folder that exists", Err: errno(err)}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Descriptors <= 0 {
		o.Descriptors = DefaultDescriptors
	}
	named, err := newOnly(o.Only)
	if err != nil {
		return nil, &Error{Op: "open repository", Path: path, Hint: "name files below it", Err: err}
	}
	r := &Repo{path: path, id: idOf(path), log: o.Logger, clock: o.Clock, start: o.Clock.Now(), every: o.Rescan, only: named}
	r.cache = newCache(o.Descriptors, r.open)
	first, err := openRoot(path)
	if err != nil {
		return nil, &Error{Op: "open repository", Path: path, Hint: hint(err), Err: err}
	}
	r.root.Store(first)
	return r, nil
}

// Root returns the absolute path of the folder, free of symbolic links.
func (r *Repo) Root() string { return r.path }

// ID returns a name for the repository that stays the same for as long as it
// lies at the same absolute path: the folder's name and twelve hexadecimal
// digits. It is a valid file name of at most 60 bytes of [A-Za-z0-9._-].
func (r *Repo) ID() string { return r.id }

// Close closes what is open. Handles that are in use stay usable until they
// are released. Watch has to be ended first, through its context.
func (r *Repo) Close() error {
	r.swapping.Lock()
	defer r.swapping.Unlock()
	r.closed = true
	r.cache.close()
	if last := r.root.Swap(nil); last != nil {
		return last.file.Close()
	}
	return nil
}

// abs is the absolute path of rel, for people.
func (r *Repo) abs(rel string) string {
	if rel == "." {
		return r.path
	}
	return strings.TrimSuffix(r.path, "/") + "/" + rel
}

// fail makes an *Error of err; rel is the path it is about.
func (r *Repo) fail(op, rel string, err error) error {
	err = classify(err)
	return &Error{Op: op, Path: r.abs(rel), Hint: hint(err), Err: err}
}

func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// errno strips the path and operation that package os adds to an error.
func errno(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

func idOf(path string) string {
	const longest = 47
	clean := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
			return c
		default:
			return '_'
		}
	}, filepath.Base(path))
	clean = strings.TrimLeft(clean, ".-_")
	if len(clean) > longest {
		clean = clean[:longest]
	}
	if clean == "" {
		clean = "repo"
	}
	sum := sha256.Sum256([]byte(path))
	return clean + "-" + hex.EncodeToString(sum[:6])
}
