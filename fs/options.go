package fs

import (
	"context"
	"log/slog"
	"os"
	"time"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/overlay"
)

// Defaults of Options.
const (
	DefaultLookupWait  = 10 * time.Second
	DefaultReadAheadKB = 1024
	// MaxUmask is the largest umask that means something.
	MaxUmask = 0o777
)

// Options say how to mount. The zero value is a good default for root; Mount
// doesn't change it.
type Options struct {
	// FsName is shown as the mounted device: the path of the repository.
	FsName string
	// AllowOther lets other users in, as far as the modes do. Nil means true for
	// root and false for others, who need user_allow_other in /etc/fuse.conf.
	AllowOther *bool
	// UID and GID own every entry. Nil means those of this process.
	UID, GID *uint32
	// Umask is taken from the modes 0550 of folders and 0440 of files.
	Umask uint32
	// Extra are mount options as users write them after -o, each a comma-separated
	// list: ro, allow_other, uid=1000. They come after the fields above and win.
	Extra []string
	// Importer takes what is written into import/. Nil means that there is none.
	Importer Importer
	// ImportUID and ImportGID own what is in import/. Nil means UID and GID. The
	// group gets the same rights as the owner only where ImportGID is set; others
	// never get any. Where one of them is set, anybody gets through the root.
	ImportUID, ImportGID *uint32
	// Scratch keeps what is written in scratch/. Nil means that there is no scratch/.
	// It is the caller's to close, after the mount has ended.
	Scratch *overlay.Store
	// LookupWait bounds how long a lookup waits for an image's chain. Zero means
	// DefaultLookupWait.
	LookupWait time.Duration
	// ReadAheadKB is how far the kernel reads ahead, in KiB; zero means
	// DefaultReadAheadKB, below zero the kernel's own. Only root can set it.
	ReadAheadKB int
	// Status gives the contents of status.json. Nil means the library's Status.
	Status func() ([]byte, error)
	// Logger gets what goes wrong. Nil means none.
	Logger *slog.Logger
	// Clock is for tests. Nil means the system's.
	Clock *Clock

	nonEmpty  bool
	maxRead   int
	mount     []string // for the kernel or fusermount3, see optionSpecs
	flags     uintptr  // MS_ flags for mount(2)
	defPerms  bool
	effective bool // withDefaults was applied
	// importGroup says that ImportGID was set.
	importGroup bool
	// importOthers says that import/ is for somebody who may have no rights
	// elsewhere, and has to get there.
	importOthers bool
}

// A Clock tells the time and ends waits.
type Clock struct {
	Now         func() time.Time
	WithTimeout func(context.Context, time.Duration) (context.Context, context.CancelFunc)
}

func systemClock() *Clock {
	return &Clock{Now: time.Now, WithTimeout: context.WithTimeout}
}

// Check reports the first mistake in o: an *Error with ErrOption.
func (o Options) Check() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns o with every field set, and Extra taken in.
func (o Options) withDefaults() (Options, error) {
	if o.effective {
		return o, nil
	}
	o.effective = true
	o.flags = defaultMountFlags
	o.maxRead = maxRequest
	if err := o.parseExtra(); err != nil {
		return o, err
	}
	if o.Umask > MaxUmask {
		return o, optionError("umask", "It is three octal digits, such as 022")
	}
	root := os.Geteuid() == 0
	o.AllowOther = orDefault(o.AllowOther, root)
	o.UID = orDefault(o.UID, uint32(os.Getuid()))
	o.GID = orDefault(o.GID, uint32(os.Getgid()))
	o.importGroup = o.ImportGID != nil
	o.importOthers = o.Importer != nil && (o.importGroup || o.ImportUID != nil)
	o.ImportUID = orDefault(o.ImportUID, *o.UID)
	o.ImportGID = orDefault(o.ImportGID, *o.GID)
	if *o.AllowOther {
		o.defPerms = true // else the modes would protect nothing
	}
	if o.LookupWait <= 0 {
		o.LookupWait = DefaultLookupWait
	}
	if o.ReadAheadKB == 0 {
		o.ReadAheadKB = DefaultReadAheadKB
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = systemClock()
	}
	return o, nil
}

func orDefault[T any](value *T, fallback T) *T {
	if value != nil {
		return value
	}
	return &fallback
}

// statusOf returns the contents of status.json for lib.
func (o Options) statusOf(lib interface{ Status() chain.Status }) func() ([]byte, error) {
	if o.Status != nil {
		return o.Status
	}
	return func() ([]byte, error) { return marshalStatus(lib.Status()) }
}
