package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Memory as the folder of an index keeps it in memory alone.
const Memory = ":memory:"

// formatVersion is the version of everything the index stores. An older one
// is thrown away and built again, a newer one is refused.
const formatVersion = 1

// Errors of an Index. Compare with errors.Is.
var (
	// ErrNewer: a newer release wrote the index.
	ErrNewer = errors.New("index was written by a newer release")
	// ErrOtherRepo: the index belongs to another repository.
	ErrOtherRepo = errors.New("index belongs to another repository")
	// ErrPastEnd: an extent reaches past the size of the image.
	ErrPastEnd = errors.New("extent past the end of the image")
	// ErrNoNode: the node isn't in the index.
	ErrNoNode = errors.New("no such node in the index")
)

// An Error names the folder of the index and says what to do.
type Error struct {
	Op   string // what was tried
	Dir  string // the folder of the index
	Hint string // the cure
	Err  error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("%s index %s: %v", e.Op, e.Dir, e.Err)
	if e.Hint != "" {
		msg += ". " + e.Hint
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// Options of Open.
type Options struct {
	// Repo identifies the repository the index is for; an index of another
	// one is refused. Empty: any.
	Repo string
	// Logger gets the store's own messages; nil drops them.
	Logger *slog.Logger
	// CacheSegments bounds the cache of decoded records, in segments of about
	// 40 bytes. 0: 256 Ki.
	CacheSegments int
}

// An Index is an open index. It is safe for concurrent use.
type Index struct {
	dir   string
	store store
	cache *cache
	log   *slog.Logger

	lookups atomic.Uint64

	mu       sync.Mutex
	nodes    map[NodeID]*Node
	numbers  map[uint32]*Node
	lineages map[uint32]*lineage
	ids      idBlock
	dirty    bool   // the session mark says so
	barrier  uint32 // lineages below can't be continued
	pending  []*Node
	building int
}

// An idBlock hands out numbers of nodes and lineages; next..reserved are
// reserved on disk, so that a crash can't lead to one being used twice.
type idBlock struct{ next, reserved uint32 }

const idBlockSize = 1 << 12

// Open opens the index in dir, or makes it. Memory makes one in memory.
func Open(dir string, o Options) (*Index, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheSegments == 0 {
		o.CacheSegments = 256 << 10
	}
	if dir == Memory {
		return load(dir, newMemoryStore(), o)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &Error{"open", dir, "Choose a folder you can write to with --index DIR", err}
	}
	ix, err := openDisk(dir, o)
	if errors.Is(err, errOlder) {
		o.Logger.Info("index has an older format and is built again", slog.String("index", dir))
		if err := os.RemoveAll(storeDir(dir)); err != nil {
			return nil, &Error{"rebuild", dir, "Delete the folder: it is a cache", err}
		}
		ix, err = openDisk(dir, o)
	}
	return ix, err
}

func storeDir(dir string) string { return filepath.Join(dir, "db") }

func openDisk(dir string, o Options) (*Index, error) {
	s, err := openBadger(storeDir(dir), o.Logger)
	if err != nil {
		return nil, &Error{"open", dir, "If no other process uses it, delete the folder: it is a cache and is built again", err}
	}
	ix, err := load(dir, s, o)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return ix, nil
}

var errOlder = errors.New("older index format")

func load(dir string, s store, o Options) (*Index, error) {
	ix := &Index{
		dir: dir, store: s, log: o.Logger, cache: newCache(o.CacheSegments),
		nodes: map[NodeID]*Node{}, numbers: map[uint32]*Node{}, lineages: map[uint32]*lineage{},
	}
	if err := ix.loadMeta(o.Repo); err != nil {
		return nil, err
	}
	if err := ix.loadLineages(); err != nil {
		return nil, ix.fail("read", err)
	}
	if err := ix.loadNodes(); err != nil {
		return nil, ix.fail("read", err)
	}
	return ix, nil
}

func (ix *Index) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{op, ix.dir, "The index is a cache: when this stays, unmount, delete the folder and mount again", err}
}

// Meta keys.
var (
	metaVersion = []byte{keyMeta, 'v'}
	metaRepo    = []byte{keyMeta, 'r'}
	metaSession = []byte{keyMeta, 's'} // dirty u8 | next be32 | barrier be32
)

func (ix *Index) loadMeta(repo string) error {
	version, err := ix.store.get(metaVersion)
	if err != nil {
		return ix.fail("read", err)
	}
	if version == nil {
		return ix.initMeta(repo)
	}
	v, _ := binary.Uvarint(version)
	if v > formatVersion {
		return &Error{"open", ix.dir, "Use that release, or another folder with --index DIR", ErrNewer}
	}
	if v < formatVersion {
		return errOlder
	}
	owner, err := ix.store.get(metaRepo)
	if err != nil {
		return ix.fail("read", err)
	}
	if repo != "" && len(owner) > 0 && string(owner) != repo {
		return &Error{"open", ix.dir, fmt.Sprintf("It was made for %s. Use another folder with --index DIR", owner), ErrOtherRepo}
	}
	session, err := ix.store.get(metaSession)
	if err != nil {
		return ix.fail("read", err)
	}
	if len(session) != 9 {
		return errOlder
	}
	ix.ids.next = binary.BigEndian.Uint32(session[1:])
	ix.ids.reserved = ix.ids.next
	ix.barrier = binary.BigEndian.Uint32(session[5:])
	if session[0] != 0 {
		// The session before this one crashed. What it wrote behind the last
		// marker of a lineage may be there in part: continue none of them.
		ix.barrier = ix.ids.next
	}
	return nil
}

func (ix *Index) initMeta(repo string) error {
	ix.ids = idBlock{next: 1, reserved: 1}
	var b batch
	b.put(metaVersion, binary.AppendUvarint(nil, formatVersion))
	b.put(metaRepo, []byte(repo))
	b.put(metaSession, ix.session(false))
	if _, err := ix.store.write(&b); err != nil {
		return ix.fail("make", err)
	}
	return ix.fail("make", ix.store.sync())
}

func (ix *Index) session(dirty bool) []byte {
	v := []byte{0}
	next := ix.ids.next
	if dirty {
		v[0] = 1
		next = ix.ids.reserved
	}
	v = binary.BigEndian.AppendUint32(v, next)
	return binary.BigEndian.AppendUint32(v, ix.barrier)
}

// newID hands out a number, with ix.mu held. The first one of a session marks
// the index dirty, before anything else is written.
func (ix *Index) newID() (uint32, error) {
	if !ix.dirty || ix.ids.next == ix.ids.reserved {
		if ix.ids.next > 1<<32-1-idBlockSize {
			return 0, &Error{"extend", ix.dir, "Delete the folder: it is built again", errors.New("all numbers are used")}
		}
		ix.ids.reserved = ix.ids.next + idBlockSize
		var b batch
		b.put(metaSession, ix.session(true))
		if _, err := ix.store.write(&b); err != nil {
			return 0, ix.fail("write", err)
		}
		if err := ix.store.sync(); err != nil {
			return 0, ix.fail("write", err)
		}
		ix.dirty = true
	}
	id := ix.ids.next
	ix.ids.next++
	return id, nil
}

// Sync makes all committed nodes and notes durable.
func (ix *Index) Sync() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return ix.syncLocked()
}

// syncLocked writes the markers of the nodes that have none, between two
// syncs: a marker must never be durable before its records.
func (ix *Index) syncLocked() error {
	if err := ix.store.sync(); err != nil {
		return ix.fail("write", err)
	}
	if len(ix.pending) == 0 {
		return nil
	}
	var b batch
	for _, n := range ix.pending {
		l := ix.lineages[n.Lineage]
		b.put(lineageKey(n.Lineage), l.marshal())
		b.put(nodeKey(n.ID), n.marshal())
	}
	if _, err := ix.store.write(&b); err != nil {
		return ix.fail("write", err)
	}
	if err := ix.store.sync(); err != nil {
		return ix.fail("write", err)
	}
	for _, n := range ix.pending {
		n.pending = false
	}
	ix.pending = nil
	return nil
}

// Close makes everything durable and closes the index. No build may run.
func (ix *Index) Close() error {
	err := ix.Sync()
	if err == nil {
		err = ix.markClean()
	}
	return errors.Join(err, ix.fail("close", ix.store.close()))
}

func (ix *Index) markClean() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if !ix.dirty || ix.building > 0 {
		return nil
	}
	var b batch
	b.put(metaSession, ix.session(false))
	if _, err := ix.store.write(&b); err != nil {
		return ix.fail("write", err)
	}
	ix.dirty = false
	return ix.fail("write", ix.store.sync())
}
