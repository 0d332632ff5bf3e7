// Package testenv decides what happens to a test when the machine lacks
// something the test needs: root, FUSE, loop devices, a Ceph installation, a
// program.
//
//	func TestMount(t *testing.T) {
//		testenv.Need(t, "fuse", "loop")
//		...
//	}
//
// On a user's machine such a test is skipped, with the reason and the cure in
// one line. Where the environment variable RBDBACKUPFS_REQUIRE names the
// capability (a comma-separated list, or "all"), the test fails instead: that is
// how a continuous-integration run proves that nothing was left out.
//
// Every probe tries the real thing. It mounts a FUSE file system and attaches a
// loop device rather than looking for a device node, because containers often
// have the node and not the right to use it.
//
// This is the only package that may skip a test; the linter holds that.
package testenv

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// RequireVar is the environment variable that turns skips into failures.
const RequireVar = "RBDBACKUPFS_REQUIRE"

// requireAll is the word in RequireVar that names every capability.
const requireAll = "all"

// probe reports why a capability is missing, or nil when it is there.
type probe func() error

// probes is every capability by its name. A function, not a variable: nothing
// can change it behind another test's back.
func probes() map[string]probe {
	return map[string]probe{
		"root": probeRoot,
		"fuse": probeFUSE,
		"loop": probeLoop,
		"ceph": programs("ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-authtool", "monmaptool", "rbd"),

		"attr":       programs("getfattr", "setfattr"),
		"btrfs":      programs("mkfs.btrfs"),
		"ext4":       programs("mkfs.ext4", "e2fsck", "debugfs"),
		"fat":        programs("mkfs.fat"),
		"mtools":     programs("mcopy", "mdel", "mdeltree"),
		"ntfs":       programs("mkfs.ntfs"),
		"packers":    programs("gzip", "pigz", "bgzip", "zstd", "pzstd", "lz4", "xz", "bzip2", "pbzip2", "tar"),
		"partitions": programs("sfdisk", "sgdisk", "parted", "partx"),
		"qemu":       programs("qemu-img", "qemu-io"),
		"rsync":      programs("rsync"),
		"xfs":        programs("mkfs.xfs", "xfs_repair"),
		"zstd":       programs("zstd"),
	}
}

// Capabilities returns the names that Need knows, sorted. Any other program is
// asked for as "program:NAME".
func Capabilities() []string {
	return slices.Sorted(maps.Keys(probes()))
}

// Need returns when the machine has every capability in caps. Otherwise it skips
// the test, or fails it when RequireVar names the missing capability. An unknown
// name, in caps or in RequireVar, fails the test: a misspelled name must not skip
// it for ever.
func Need(t testing.TB, caps ...string) {
	t.Helper()
	required, err := parseRequired(os.Getenv(RequireVar))
	if err != nil {
		t.Fatalf("%s: %v", RequireVar, err)
	}
	for _, name := range caps {
		p, err := lookup(name)
		if err != nil {
			t.Fatalf("testenv.Need: %v", err)
		}
		if err := p(); err != nil {
			if required[name] || required[requireAll] {
				t.Fatalf("%s is required by %s: %v", name, RequireVar, err)
			}
			t.Skipf("needs %s: %v (make deps installs what can be installed)", name, err)
		}
	}
}

// Long skips the test in -short mode. It is for tests whose size, not whose
// needs, keeps them out of a quick run.
func Long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("long; run without -short")
	}
}

// Program returns the path of the named program. Like the probes it also looks
// in the sbin folders, which an ordinary user's PATH leaves out on Debian.
func Program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: %w", name, exec.ErrNotFound)
}

// parseRequired splits the value of RequireVar and refuses unknown names.
func parseRequired(value string) (map[string]bool, error) {
	required := make(map[string]bool)
	for field := range strings.SplitSeq(value, ",") {
		name := strings.TrimSpace(field)
		if name == "" {
			continue
		}
		if name != requireAll {
			if _, err := lookup(name); err != nil {
				return nil, err
			}
		}
		required[name] = true
	}
	return required, nil
}

func lookup(name string) (probe, error) {
	if program, ok := strings.CutPrefix(name, "program:"); ok && program != "" {
		return programs(program), nil
	}
	if p, ok := probes()[name]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("unknown capability %q (known: %s, program:NAME)",
		name, strings.Join(Capabilities(), ", "))
}

func programs(names ...string) probe {
	return func() error {
		var missing []string
		for _, name := range names {
			if _, err := Program(name); err != nil {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("not installed: %s", strings.Join(missing, ", "))
		}
		return nil
	}
}

func probeRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("not running as root")
	}
	return nil
}
