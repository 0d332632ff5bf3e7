package main

import (
	"context"
	"fmt"
	"os"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
)

// announce says what is mounted, and lets the parent go.
func (m *mounter) announce(complete bool, parent *daemon.Parent) error {
	status, err := m.source.Status(context.Background())
	if err != nil {
		return err
	}
	out := m.app.stdout
	line := fmt.Sprintf("mounted %s at %s: %s, %s", m.session.root, m.mountpoint,
		count(status.Images, "image"), count(status.Snapshots, "snapshot"))
	if !complete {
		line += fmt.Sprintf(" so far; indexing %s goes on, see: rbdbackupfs status %s", workLeft(status.Progress), m.mountpoint)
	}
	fmt.Fprintln(out, printable(line))
	fmt.Fprintln(out, printable(m.layoutLine(status.Layout, complete)))
	if m.imports != nil {
		fmt.Fprintln(out, printable(fmt.Sprintf("writes to %s go to %s", m.importFolder(), m.imports.target)))
	}
	if n := damagedFiles(status.Problems); n > 0 {
		verb := "have"
		if n == 1 {
			verb = "has"
		}
		fmt.Fprintf(out, "%s %s problems; see: rbdbackupfs ls %s\n", count(n, "file"), verb, printable(m.session.root))
	}
	if os.Geteuid() != 0 && (m.tree.AllowOther == nil || !*m.tree.AllowOther) {
		fmt.Fprintln(out, "only this user can read it, not even root (losetup, mount -o loop); --allow-other lets others in")
	}
	if parent == nil {
		m.notify(daemon.NotifyReady)
		return nil
	}
	fmt.Fprintf(out, "log: %s\n", m.log.where)
	return parent.Ready()
}

// layoutLine says which layout was taken, and what came of it once that is known.
func (m *mounter) layoutLine(r layoutReport, complete bool) string {
	if complete && r.Left == 0 {
		return "layout: " + r.String()
	}
	line := "layout: " + r.name()
	if complete {
		line = "layout: " + r.String()
	}
	return fmt.Sprintf("%s; what was taken for what: rbdbackupfs layout %s", line, m.mountpoint)
}

// damagedFiles counts files, and snapshots for which there is none.
func damagedFiles(problems []chain.Problem) int {
	seen := make(map[string]bool)
	for _, p := range problems {
		if !damage(p) {
			continue
		}
		key := p.File
		if key == "" {
			key = p.Image + "@" + p.Snapshot
		}
		seen[key] = true
	}
	return len(seen)
}
