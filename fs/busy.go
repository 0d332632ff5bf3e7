package fs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A HolderKind says what uses a mount.
type HolderKind string

// The kinds of holders.
const (
	HolderProcess HolderKind = "process"
	HolderLoop    HolderKind = "loop device"
	HolderMount   HolderKind = "mount"
)

// A Holder is something that keeps a file system from being unmounted.
type Holder struct {
	Kind HolderKind
	PID  int    // of a process
	Name string // of a process, or of a device such as /dev/loop0
	Use  string // what a process does with Path: "open file", "working folder", "root folder", "mapped file", "program"
	Path string // below the mountpoint
	// Off and Size are the range of the file that a loop device has, bytes. A size of 0
	// is all of the file from there.
	Off, Size int64
	// Autoclear is of a loop device that goes with its last user.
	Autoclear bool
	// MountedAt is where a loop device or a partition of it is mounted.
	MountedAt []string
	// Users are devices built on a loop device, such as dm-0.
	Users []string
}

// String is one line, with what to do where that isn't plain.
func (h Holder) String() string {
	switch h.Kind {
	case HolderLoop:
		return h.loopString()
	case HolderMount:
		return fmt.Sprintf("%s is mounted below it: umount %s", h.Name, h.Path)
	default:
		return fmt.Sprintf("process %d (%s): %s %s", h.PID, h.Name, h.Use, h.Path)
	}
}

func (h Holder) loopString() string {
	text := fmt.Sprintf("%s is attached to %s", h.Name, h.Path)
	cure := "losetup -d " + h.Name
	if len(h.Users) > 0 {
		text += ", in use by " + strings.Join(h.Users, ", ")
	}
	if len(h.MountedAt) > 0 {
		text += ", mounted at " + strings.Join(h.MountedAt, ", ")
		unmount := "umount " + strings.Join(h.MountedAt, " ")
		if cure = unmount + " && " + cure; h.Autoclear {
			cure = unmount
		}
	}
	return text + ": " + cure
}

// findHolders looks for whatever uses the mount at path, as far as this user
// may see it.
func findHolders(path string) []Holder {
	mounts, err := readMountinfo()
	if err != nil {
		mounts = nil
	}
	holders := processHolders(path)
	holders = append(holders, loopHolders(path, mounts)...)
	for _, entry := range mounts {
		if entry.path != path && below(entry.path, path) {
			holders = append(holders, Holder{Kind: HolderMount, Name: entry.source, Path: entry.path})
		}
	}
	return holders
}

// processHolders reads /proc, one line for each process and path.
func processHolders(mountpoint string) []Holder {
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil
	}
	var holders []Holder
	for _, pid := range numbers("/proc") {
		dir := "/proc/" + strconv.Itoa(pid)
		if other, err := os.Readlink(dir + "/ns/mnt"); err == nil && other != namespace {
			continue // its paths mean something else, and it doesn't hold this mount
		}
		used := processUses(dir, mountpoint)
		for _, path := range slices.Sorted(maps.Keys(used)) {
			holders = append(holders, Holder{Kind: HolderProcess, PID: pid, Name: comm(dir), Use: used[path], Path: path})
		}
	}
	return holders
}

// processUses returns how the process at dir uses paths below the mountpoint.
func processUses(dir, mountpoint string) map[string]string {
	used := map[string]string{}
	note := func(path, use string) {
		path = strings.TrimSuffix(path, " (deleted)")
		if _, known := used[path]; !known && below(path, mountpoint) {
			used[path] = use
		}
	}
	for link, use := range map[string]string{"cwd": "working folder", "root": "root folder", "exe": "program"} {
		if path, err := os.Readlink(filepath.Join(dir, link)); err == nil {
			note(path, use)
		}
	}
	for _, fd := range numbers(filepath.Join(dir, "fd")) {
		if path, err := os.Readlink(filepath.Join(dir, "fd", strconv.Itoa(fd))); err == nil {
			note(path, "open file")
		}
	}
	mapped, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return used
	}
	for line := range strings.Lines(string(mapped)) {
		if at := strings.IndexByte(line, '/'); at >= 0 {
			note(strings.TrimSuffix(line[at:], "\n"), "mapped file")
		}
	}
	return used
}

// comm is a process's short name.
func comm(dir string) string {
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(name), "\n")
}

// numbers returns the entries of dir that are numbers, in order.
func numbers(dir string) []int {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	names, err := d.Readdirnames(-1)
	if closeErr := d.Close(); err != nil || closeErr != nil {
		return nil
	}
	var found []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found
}

// LoopDevices finds the loop devices on files at or below path.
func LoopDevices(path string) []Holder {
	mounts, err := readMountinfo()
	if err != nil {
		mounts = nil
	}
	return loopHolders(path, mounts)
}

// loopHolders finds loop devices on files below the mountpoint; the kernel
// holds these, no process does.
func loopHolders(mountpoint string, mounts []mountEntry) []Holder {
	devices, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		return nil
	}
	var holders []Holder
	for _, device := range devices {
		backing, err := os.ReadFile(device + "/loop/backing_file")
		if err != nil {
			continue
		}
		path := strings.TrimSuffix(strings.TrimSuffix(string(backing), "\n"), " (deleted)")
		if !below(path, mountpoint) {
			continue
		}
		at, users := deviceUses(device, mounts)
		holders = append(holders, Holder{
			Kind: HolderLoop, Name: "/dev/" + filepath.Base(device), Path: path, MountedAt: at, Users: users,
			Off: readNumber(device + "/loop/offset"), Size: readNumber(device + "/loop/sizelimit"),
			Autoclear: readNumber(device+"/loop/autoclear") != 0,
		})
	}
	return holders
}

// readNumber is 0 where there is none.
func readNumber(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// deviceUses returns where a block device and its partitions are mounted, and
// the devices built on them.
func deviceUses(device string, mounts []mountEntry) (mountedAt, users []string) {
	parts, err := filepath.Glob(filepath.Join(device, filepath.Base(device)+"p*"))
	if err != nil {
		parts = nil
	}
	for _, part := range append([]string{device}, parts...) {
		dev, err := os.ReadFile(filepath.Join(part, "dev"))
		if err != nil {
			continue
		}
		for _, entry := range mounts {
			if entry.dev == strings.TrimSpace(string(dev)) {
				mountedAt = append(mountedAt, entry.path)
			}
		}
		holders, err := os.ReadDir(filepath.Join(part, "holders"))
		if err != nil {
			continue
		}
		for _, holder := range holders {
			users = append(users, holder.Name())
		}
	}
	return mountedAt, users
}
