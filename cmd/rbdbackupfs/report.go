package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/parttable"
)

// statusReport is status.json in the mount, /v1/status, and "status --json".
type statusReport struct {
	chain.Status
	Layout  layoutReport  `json:"layout"` // instead of the one in Status
	Daemon  daemonReport  `json:"daemon"`
	Imports *importReport `json:"imports,omitempty"` // none without --import
	// Scratch is what was written in scratch/; none without that.
	Scratch *scratchReport `json:"scratch,omitempty"`
}

// importReport says where a mount restores to, and how many restores there are.
type importReport struct {
	Target  string `json:"target"`
	Running int    `json:"running"`
	Done    int    `json:"done"`
	Failed  int    `json:"failed"` // undone
	Broken  int    `json:"broken"` // to be recovered
}

// daemonReport says who serves a mount.
type daemonReport struct {
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Version    string    `json:"version"`
	Mountpoint string    `json:"mountpoint"`
	Index      string    `json:"index"`
	Socket     string    `json:"socket,omitempty"` // none for an index in memory
	Log        string    `json:"log,omitempty"`
}

// nameReport is a name in JSON. JSON texts are Unicode and names are bytes:
// where they aren't UTF-8, Name shows that and Base64 has them.
type nameReport struct {
	Name   string `json:"name"`
	Base64 string `json:"name_base64,omitempty"`
}

func newNameReport(name string) nameReport {
	if utf8.ValidString(name) {
		return nameReport{Name: name}
	}
	return nameReport{Name: name, Base64: base64.StdEncoding.EncodeToString([]byte(name))}
}

// bytes gives back the name that was reported.
func (n nameReport) bytes() string {
	if name, err := base64.StdEncoding.DecodeString(n.Base64); err == nil && n.Base64 != "" {
		return string(name)
	}
	return n.Name
}

// imageReport is one image of /v1/images and of "ls --json".
type imageReport struct {
	nameReport
	State     chain.State      `json:"state"`
	Folder    string           `json:"folder"` // below the mountpoint
	Latest    string           `json:"latest,omitempty"`
	Snapshots []snapshotReport `json:"snapshots"`
	Problems  []chain.Problem  `json:"problems"`
	Files     []*chain.File    `json:"files,omitempty"` // of one image only
}

// snapshotReport is one served snapshot.
type snapshotReport struct {
	nameReport
	Label     string            `json:"label"` // unique in its image
	Path      string            `json:"path"`  // below the mountpoint
	Size      int64             `json:"size"`
	Allocated int64             `json:"allocated"`
	MTime     time.Time         `json:"mtime"`
	Protected bool              `json:"protected,omitempty"`
	Parent    string            `json:"parent,omitempty"`  // label of the snapshot its step starts from
	Depth     int               `json:"depth"`             // steps from nothing to here
	Trust     chain.Trust       `json:"trust"`             // the weakest of its chain
	Damaged   bool              `json:"damaged,omitempty"` // a file of its chain lost bytes; reads that need them fail
	Step      chain.Link        `json:"step"`
	Chain     []chain.Link      `json:"chain,omitempty"` // of one snapshot only
	Meta      map[string]string `json:"meta,omitempty"`

	Partitions []parttable.Partition `json:"partitions,omitempty"`
}

// newImageReport reports img. detail adds its files, and snapshot (a label)
// leaves only that one with its whole chain, and what has to do with it.
func newImageReport(img *chain.Image, detail bool, snapshot string) imageReport {
	report := imageReport{
		nameReport: newNameReport(img.Name), State: img.State, Folder: treeFolder(img.Name),
		Snapshots: []snapshotReport{}, Problems: []chain.Problem{},
	}
	if img.Latest != nil {
		report.Latest = img.Latest.Label()
	}
	trust := make(map[*chain.Snapshot]chain.Trust, len(img.Snapshots))
	damaged := damagedSnapshots(img)
	files := make(map[string]bool)
	for _, s := range img.Snapshots {
		// Parents come before their children.
		trust[s] = weaker(s.Step.Trust, trust[s.Parent])
		if snapshot != "" && s.Label() != snapshot {
			continue
		}
		entry := newSnapshotReport(s, trust[s])
		entry.Damaged = damaged[s]
		if snapshot != "" {
			entry.Chain = s.Chain()
			for _, link := range entry.Chain {
				files[link.File] = true
			}
		}
		report.Snapshots = append(report.Snapshots, entry)
	}
	for _, p := range img.Problems {
		if snapshot == "" || p.Snapshot == snapshot || files[p.File] {
			report.Problems = append(report.Problems, p)
		}
	}
	for _, f := range img.Files {
		if detail && (snapshot == "" || files[f.Path]) {
			report.Files = append(report.Files, f)
		}
	}
	return report
}

// damagedSnapshots are those that build on a file that lost bytes.
func damagedSnapshots(img *chain.Image) map[*chain.Snapshot]bool {
	lost := make(map[string]bool)
	for _, p := range img.Problems {
		if p.Kind == chain.KindDamaged {
			lost[p.File] = true
		}
	}
	damaged := make(map[*chain.Snapshot]bool)
	for _, s := range img.Snapshots {
		if lost[s.Step.File] || damaged[s.Parent] {
			damaged[s] = true
		}
	}
	return damaged
}

func newSnapshotReport(s *chain.Snapshot, trust chain.Trust) snapshotReport {
	report := snapshotReport{
		nameReport: newNameReport(s.Name), Label: s.Label(), Path: treePath(s),
		Size: s.Size, Allocated: s.Allocated, MTime: s.ModTime, Protected: s.Protected,
		Depth: s.Depth, Trust: trust, Step: s.Step, Meta: s.Meta,
		Partitions: s.Partitions,
	}
	if s.Parent != nil {
		report.Parent = s.Parent.Label()
	}
	return report
}

// weaker is the one of two kinds of trust that is worth less; the parent's is
// empty for a full step.
func weaker(step, parent chain.Trust) chain.Trust {
	for _, trust := range []chain.Trust{chain.TrustSuspicious, chain.TrustByName, chain.TrustLink} {
		if step == trust || parent == trust {
			return trust
		}
	}
	return step
}

// damage reports whether a problem is one of the repository, which makes the
// exit status 3. A file that is still being written is none, and neither is a
// remark on a snapshot that is served.
func damage(p chain.Problem) bool {
	switch p.Kind {
	case chain.KindUnsettled:
		return false
	case chain.KindDamaged, chain.KindCorrupt, chain.KindIncomplete, chain.KindUnreadable, chain.KindIndex, chain.KindSuspicious:
		return true
	}
	return !p.Serving
}

// damaged counts the problems that damage says are some.
func damaged(problems []chain.Problem) int {
	n := 0
	for _, p := range problems {
		if damage(p) {
			n++
		}
	}
	return n
}

// sideCar reports whether a problem is none: a file that people keep beside their
// backups, such as a checksum or notes. Others of this kind that harm nothing are
// of no image.
func sideCar(p chain.Problem) bool {
	return p.Kind == chain.KindUnsupported && p.Serving && p.Image != ""
}

// withoutSideCars parts what is wrong from files that aren't backups.
func withoutSideCars(problems []chain.Problem) (wrong []chain.Problem, beside []string) {
	for _, p := range problems {
		if sideCar(p) {
			beside = append(beside, p.File)
		} else {
			wrong = append(wrong, p)
		}
	}
	return wrong, beside
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
