package mount

import (
	"encoding/base64"
	"encoding/json"
	"testing"
)

// The JSON that users' scripts see, written down here once more: a change of it
// breaks these tests, and their monitoring.

// Status is status.json, and what `status --json` prints.
type Status struct {
	Images    int       `json:"images"`
	Pending   int       `json:"pending"`
	Snapshots int       `json:"snapshots"`
	Files     int       `json:"files"`
	Problems  []Problem `json:"problems"`
	Progress  struct {
		Listed bool `json:"listed"`
		Idle   bool `json:"idle"`
	} `json:"progress"`
	Daemon struct {
		PID int `json:"pid"`
	} `json:"daemon"`
}

// A Problem is something that is wrong with the repository.
type Problem struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"`
	File     string `json:"file"`
	Offset   int64  `json:"offset"`
	Kind     string `json:"kind"`
	Reason   string `json:"reason"`
	Cure     string `json:"cure"`
	Serving  bool   `json:"serving"`
}

// A Listing is what `ls --json` prints.
type Listing struct {
	Repo     string    `json:"repo"`
	Images   []Image   `json:"images"`
	Problems []Problem `json:"problems"`
}

// An Image is one image of a Listing.
type Image struct {
	Name      string     `json:"name"`
	State     string     `json:"state"`
	Latest    string     `json:"latest"`
	Snapshots []Snapshot `json:"snapshots"`
}

// A Snapshot is one that is served.
type Snapshot struct {
	Name      string            `json:"name"`
	Base64    string            `json:"name_base64"` // where the name isn't UTF-8
	Label     string            `json:"label"`
	Path      string            `json:"path"` // below the mountpoint
	Size      int64             `json:"size"`
	Allocated int64             `json:"allocated"`
	Protected bool              `json:"protected"`
	Depth     int               `json:"depth"`
	Trust     string            `json:"trust"`
	Meta      map[string]string `json:"meta"`
}

// Bytes is the snapshot's name, or its label where that says more.
func (s Snapshot) Bytes() string {
	if name, err := base64.StdEncoding.DecodeString(s.Base64); err == nil && s.Base64 != "" {
		return string(name)
	}
	return s.Label
}

// List runs `ls --json` and returns what it printed, and its exit status.
func List(t testing.TB, args ...string) (Listing, int) {
	t.Helper()
	r := Run(t, append([]string{"ls", "--json"}, args...)...)
	var l Listing
	if err := json.Unmarshal([]byte(r.Stdout), &l); err != nil {
		t.Fatalf("no JSON: %v in %v", err, r)
	}
	return l, r.Code
}

// String is for messages.
func (p Problem) String() string {
	return p.Kind + " " + p.File + " " + p.Snapshot + ": " + p.Reason + ". " + p.Cure
}
