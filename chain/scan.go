package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"rbdbackupfs/internal/packed"
	"rbdbackupfs/internal/shellword"
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
	// Packed is what Packed.Decode reads, of a file that is compressed.
	Packed []byte `json:"packed,omitempty"`
	// Raw is the rule by which a file without a banner was taken for a raw export, or
	// not; empty for others.
	Raw     rawRule `json:"raw,omitempty"`
	Version int     `json:"version"` // of the note

	unpacked *packed.Map // of Packed
}

// noteVersion changes with what a note says. Others aren't read.
const noteVersion = 2

// readNote reads the note of a file; ok is false if it is of another version.
func readNote(name string, note []byte) (info *fileInfo, ok bool) {
	info = &fileInfo{}
	if json.Unmarshal(note, info) != nil || info.Version != noteVersion {
		return nil, false
	}
	if info.Packed != nil {
		var err error
		if info.unpacked, err = packed.Decode(info.Packed, packedID(name, info.Pin)); err != nil {
			return nil, false
		}
	}
	return info, true
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
func (l *Library) scanFile(ctx context.Context, f *fileState, pin repo.Pin, rule rawRule) (*fileInfo, error) {
	name := f.path
	h, err := l.open(ctx, name, pin, nil)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	h.scanned = &f.scanned
	info, err := scanContent(h, l.shown(name), pin, rule)
	if err != nil {
		return nil, err
	}
	if info.Fault == nil && info.Packed == nil {
		if info.Sums, err = samples(h, pin.Size, pin.Size); err != nil {
			return nil, err
		}
	}
	if err := h.Check(); err != nil {
		return nil, err
	}
	return info, nil
}

// scanContent reads a file, and what is packed in it.
func scanContent(c *content, name string, pin repo.Pin, rule rawRule) (*fileInfo, error) {
	info := &fileInfo{Pin: pin, Version: noteVersion}
	format, err := detect(c)
	if err != nil {
		return nil, err
	}
	codec, inTar := packingOf(name, format)
	if codec == "" {
		return info, info.scanExport(c, format, name, rule)
	}
	info.Format = string(codec)
	info.unpacked, err = c.cache.Scan(c.ctx, scanned{c.Handle, c.scanned}, pin.Size, codec, inTar, packedID(name, pin))
	if info.Fault = packedFault(c.where, codec, err); info.Fault != nil {
		return info, nil
	}
	if err != nil {
		return nil, err
	}
	info.Packed = info.unpacked.Encode()
	c.packed = info.unpacked
	if format, err = detect(c); err != nil {
		return nil, err
	}
	if format.Unpack() != "" {
		info.Fault = &fault{
			kind: KindUnsupported, reason: fmt.Sprintf("is %s, and what is packed in it is %s again", codec, format),
			cure: "Pack it once only", offset: 0,
		}
		return info, nil
	}
	err = info.scanExport(c, format, name, rule)
	info.Format += " in " + string(codec)
	if info.Fault != nil {
		info.Fault.inPacked()
	}
	for i := range info.Warn {
		info.Warn[i].inPacked()
	}
	return info, err
}

// inPacked says where a fault is that is in what is packed.
func (f *fault) inPacked() {
	if f.offset > 0 {
		f.reason = fmt.Sprintf("%s, at byte %d of what is packed in it", f.reason, f.offset)
	}
	f.offset = -1
}

func detect(c *content) (rbddiff.Format, error) {
	prefix := make([]byte, min(c.Size(), rbddiff.DetectLen))
	if _, err := c.ReadAt(prefix, 0); err != nil {
		return rbddiff.Unknown, err
	}
	return rbddiff.Detect(prefix), nil
}

// scanExport fills in what an export says.
func (info *fileInfo) scanExport(c *content, format rbddiff.Format, name string, rule rawRule) error {
	switch format {
	case rbddiff.DiffV1, rbddiff.Container:
		return info.scanDiffs(c, format)
	case rbddiff.Unknown:
		info.scanRaw(name, c.where, c.Size(), rule)
	case rbddiff.RBDPrefix:
		info.Format = format.String()
		info.Fault = &fault{
			kind: KindIncomplete, reason: fmt.Sprintf("ends inside its banner, after %d bytes", c.Size()),
			cure: "The export was cut off: make it again, or remove the file", offset: c.Size(),
		}
	default:
		info.Format = format.String()
		info.Fault = &fault{
			kind: KindUnsupported, reason: "is " + format.String() + ", which can't be read",
			cure: strings.NewReplacer("FILE", shellword.Word(c.where), " first:", " first, and then move it out of the repository:").Replace(format.Hint()), offset: 0,
		}
	}
	return nil
}

// scanDiffs fills in what the records of a diff v1 or a container say.
func (info *fileInfo) scanDiffs(c *content, format rbddiff.Format) error {
	info.Format, info.Kind = format.String(), kindDiff
	if format == rbddiff.Container {
		info.Kind = kindContainer
	}
	found, err := rbddiff.Scan(io.NewSectionReader(c, 0, c.Size()), c.Size())
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
