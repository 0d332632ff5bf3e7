package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"rbdbackupfs/rbddiff"
	"rbdbackupfs/repo"
)

// fileInfo is what reading a file's headers told. It is kept in the index as a
// note, so that a file is read once for as long as its pin stays.
type fileInfo struct {
	Pin    repo.Pin          `json:"pin"`
	Format string            `json:"format"`
	Kind   fileKind          `json:"kind,omitempty"`
	Steps  []stepInfo        `json:"steps,omitempty"`
	Meta   map[string]string `json:"meta,omitempty"`
	Fault  *fault            `json:"fault,omitempty"`
	Warn   []fault           `json:"warn,omitempty"`
	Sums   []uint32          `json:"sums,omitempty"` // of samples
}

// stepInfo is one diff of a file; a raw file is one step from nothing.
type stepInfo struct {
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	HasFrom   bool   `json:"hasFrom,omitempty"`
	HasTo     bool   `json:"hasTo,omitempty"`
	HasSize   bool   `json:"hasSize,omitempty"`
	Protected bool   `json:"protected,omitempty"`
	Size      int64  `json:"size,omitempty"`   // of the image, bytes
	Pos       int64  `json:"pos,omitempty"`    // of the diff's banner in the file
	Bytes     int64  `json:"bytes,omitempty"`  // of data
	MaxEnd    int64  `json:"maxEnd,omitempty"` // the largest end of an extent
}

// A fault is a Problem of a file before it is known which image it is in.
type fault struct {
	kind     Kind
	reason   string
	cure     string
	offset   int64
	maybeRaw bool // no banner: --link would make it a raw export
	sideCar  bool // checksums, notes and the like: no backup is missing
}

// The form of a fault in a note.
type faultNote struct {
	Kind     Kind   `json:"kind"`
	Reason   string `json:"reason"`
	Cure     string `json:"cure,omitempty"`
	Offset   int64  `json:"offset"`
	MaybeRaw bool   `json:"maybeRaw,omitempty"`
	SideCar  bool   `json:"sideCar,omitempty"`
}

func (f fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(faultNote{f.kind, f.reason, f.cure, f.offset, f.maybeRaw, f.sideCar})
}

func (f *fault) UnmarshalJSON(b []byte) error {
	var n faultNote
	err := json.Unmarshal(b, &n)
	*f = fault{n.Kind, n.Reason, n.Cure, n.Offset, n.MaybeRaw, n.SideCar}
	return err
}

// scanFile reads the headers of one file. The error is set only when the file
// changed under the reader or can't be read, so that nothing is known of it.
func scanFile(r *repo.Repo, name string, pin repo.Pin, linked bool) (*fileInfo, error) {
	h, err := r.OpenFile(name, pin)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	info, err := scanHandle(h, name, pin, linked)
	if err != nil {
		return nil, err
	}
	if info.Fault == nil {
		if info.Sums, err = samples(h, pin.Size, pin.Size); err != nil {
			return nil, err
		}
	}
	if err := h.Check(); err != nil {
		return nil, err
	}
	return info, nil
}

func scanHandle(h *repo.Handle, name string, pin repo.Pin, linked bool) (*fileInfo, error) {
	prefix := make([]byte, min(pin.Size, rbddiff.DetectLen))
	if _, err := h.ReadAt(prefix, 0); err != nil {
		return nil, err
	}
	info := &fileInfo{Pin: pin}
	switch format := rbddiff.Detect(prefix); format {
	case rbddiff.DiffV1, rbddiff.Container:
		return info, info.scanDiffs(h, format)
	case rbddiff.Unknown:
		info.scanRaw(name, linked)
	case rbddiff.RBDPrefix:
		info.Format = format.String()
		info.Fault = &fault{
			kind: KindIncomplete, reason: fmt.Sprintf("ends inside its banner, after %d bytes", pin.Size),
			cure: "The export was cut off: make it again, or remove the file", offset: pin.Size,
		}
	default:
		info.Format = format.String()
		info.Fault = &fault{
			kind: KindUnsupported, reason: "is " + format.String() + ", which can't be read",
			cure: strings.ReplaceAll(format.Hint(), "FILE", shellWord(name)), offset: 0,
		}
	}
	return info, nil
}

// scanDiffs fills in what the records of a diff v1 or a container say.
func (info *fileInfo) scanDiffs(h *repo.Handle, format rbddiff.Format) error {
	info.Format, info.Kind = format.String(), kindDiff
	if format == rbddiff.Container {
		info.Kind = kindContainer
	}
	found, err := rbddiff.Scan(io.NewSectionReader(h, 0, h.Size()), h.Size())
	if found != nil {
		info.Meta = found.Header.Meta
		for _, s := range found.Steps {
			info.addStep(s)
		}
		if found.Broken != nil {
			info.addStep(*found.Broken)
		}
		for _, w := range found.Warnings {
			info.Warn = append(info.Warn, fault{kind: warningKind(found, w), reason: w.Reason, cure: w.Hint, offset: w.Pos})
		}
	}
	if err == nil {
		for _, s := range info.Steps {
			if !s.HasFrom && !s.HasSize {
				info.Fault = &fault{
					kind: KindNoSize, reason: "says neither where it starts nor how large the image is, so it holds no image", offset: s.Pos,
					cure: "rbd doesn't write such files: make the export again, or remove the file",
				}
			}
		}
		return nil
	}
	var f *rbddiff.Error
	if !errors.As(err, &f) {
		return err
	}
	if info.Fault = formatFault(f); info.Fault == nil {
		return err
	}
	return nil
}

// formatFault is the fault that an error of a reader stands for; nil for one
// of the source.
func formatFault(e *rbddiff.Error) *fault {
	f := &fault{reason: e.Reason, cure: e.Hint, offset: e.Pos}
	switch {
	case errors.Is(e, rbddiff.ErrIncomplete):
		f.kind = KindIncomplete
	case errors.Is(e, rbddiff.ErrCorrupt):
		f.kind = KindCorrupt
	case errors.Is(e, rbddiff.ErrUnsupported):
		f.kind = KindUnsupported
	default:
		return nil
	}
	return f
}

func warningKind(found *rbddiff.Info, w rbddiff.Warning) Kind {
	if found.Trailing > 0 && w.Pos >= found.Steps[len(found.Steps)-1].End {
		return KindTrailing
	}
	for _, s := range found.Steps {
		if !s.HasSize && s.Pos <= w.Pos && w.Pos < s.End {
			return KindNoSize
		}
	}
	return KindOdd
}

func (info *fileInfo) addStep(s rbddiff.Step) {
	info.Steps = append(info.Steps, stepInfo{
		From: s.From, To: s.To, HasFrom: s.HasFrom, HasTo: s.HasTo, HasSize: s.HasSize, Protected: s.Protected,
		Size: s.Size, Pos: s.Pos, Bytes: s.DataBytes, MaxEnd: s.MaxEnd,
	})
}

// scanRaw takes a file without a banner for a raw export if its name says so,
// or the user.
func (info *fileInfo) scanRaw(name string, linked bool) {
	if isRawName(name) || linked {
		info.Format, info.Kind = "raw", kindRaw
		info.Steps = []stepInfo{{HasSize: true, Size: info.Pin.Size, Bytes: info.Pin.Size}}
		return
	}
	info.Format = "unknown"
	if isSideCar(name) {
		info.Fault = &fault{
			kind: KindUnsupported, reason: "is not a backup", maybeRaw: true, sideCar: true,
			cure: "Nothing is lost: it is left alone",
		}
		return
	}
	if info.Pin.Size == 0 {
		info.Fault = &fault{
			kind: KindIncomplete, reason: "is empty",
			cure: "The export was cut off before its first byte: make it again, or remove the file",
		}
		return
	}
	info.Fault = &fault{
		kind: KindUnsupported, reason: "has no banner of an rbd export", offset: 0, maybeRaw: true,
		cure: fmt.Sprintf("If it is a raw export, name it *.raw or *.img, or use --link %s=SNAPSHOT; else move it out of the repository", shellWord(name)),
	}
}

// isRawName tells whether a file without a banner is a raw export by its name.
func isRawName(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".raw" || ext == ".img"
}

// isSideCar tells whether a file that isn't a backup is one of those that
// people keep beside their backups.
func isSideCar(name string) bool {
	base := path.Base(name)
	switch strings.ToLower(path.Ext(base)) {
	case ".txt", ".md", ".log", ".json", ".toml", ".yaml", ".yml", ".xml", ".conf", ".sh",
		".md5", ".sha1", ".sha256", ".sha512", ".sum", ".sums", ".sig", ".asc", ".size":
		return true
	}
	switch base {
	case "README", "SHA256SUMS", "SHA512SUMS", "SHA1SUMS", "MD5SUMS", "lost+found":
		return true
	}
	return false
}

const (
	sampleCount = 8
	sampleSize  = 4096
)

// samples returns checksums of a few blocks spread over a file of size bytes,
// those that end below limit. They tell a file that was cut off from one that
// was written anew: no format has a checksum of its own.
func samples(h io.ReaderAt, size, limit int64) ([]uint32, error) {
	var sums []uint32
	buf := make([]byte, sampleSize)
	for i := range int64(sampleCount) {
		at := size / sampleCount * i
		end := min(at+sampleSize, size)
		if end > limit {
			break
		}
		if _, err := h.ReadAt(buf[:end-at], at); err != nil {
			return nil, err
		}
		sums = append(sums, crc32.Checksum(buf[:end-at], crc32.MakeTable(crc32.Castagnoli)))
	}
	return sums, nil
}
