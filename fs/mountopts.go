package fs

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Subtype makes the file system's type fuse.rbdbackupfs in /proc/mounts.
const (
	Subtype    = "rbdbackupfs"
	FSType     = "fuse." + Subtype
	maxRequest = 1 << 20 // bytes in one read
	minRequest = 4096

	defaultMountFlags = unix.MS_NOSUID | unix.MS_NODEV
)

// flagOptions are those that are bits of mount(2).
func flagOptions() map[string]struct{ set, clear uintptr } {
	return map[string]struct{ set, clear uintptr }{
		"ro": {set: unix.MS_RDONLY}, "rw": {clear: unix.MS_RDONLY},
		"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
		"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
		"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
		"noatime": {set: unix.MS_NOATIME}, "atime": {clear: unix.MS_NOATIME},
		"nodiratime": {set: unix.MS_NODIRATIME}, "diratime": {clear: unix.MS_NODIRATIME},
		"relatime": {set: unix.MS_RELATIME}, "strictatime": {set: unix.MS_STRICTATIME},
		"sync": {set: unix.MS_SYNCHRONOUS}, "async": {clear: unix.MS_SYNCHRONOUS},
		"dirsync": {set: unix.MS_DIRSYNC},
	}
}

// fromFstab reports options that are for mount(8) and mean nothing here.
func fromFstab(name string) bool {
	switch name {
	case "", "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail", "comment":
		return true
	}
	return strings.HasPrefix(name, "x-")
}

// parseExtra takes o.Extra into the other fields.
func (o *Options) parseExtra() error {
	for _, list := range o.Extra {
		for _, option := range splitOptions(list) {
			if err := o.parseOption(option); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitOptions splits at commas that have no backslash before them.
func splitOptions(list string) []string {
	var options []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			b.WriteByte(list[i])
		case list[i] == ',':
			options = append(options, b.String())
			b.Reset()
		default:
			b.WriteByte(list[i])
		}
	}
	return append(options, b.String())
}

func (o *Options) parseOption(option string) error {
	name, value, hasValue := strings.Cut(option, "=")
	if fromFstab(name) {
		return nil
	}
	if bits, found := flagOptions()[name]; found && !hasValue {
		o.flags = o.flags&^bits.clear | bits.set
		o.mount = append(o.mount, name)
		return nil
	}
	switch {
	case hasValue:
		return o.parseValue(name, value)
	case name == "allow_other":
		yes := true
		o.AllowOther = &yes
	case name == "default_permissions":
		o.defPerms = true
	case name == "nonempty":
		o.nonEmpty = true
	default:
		return optionError(option, "It isn't known. Known are: "+strings.Join(knownOptions(), ", "))
	}
	return nil
}

func (o *Options) parseValue(name, value string) error {
	switch name {
	case "fsname":
		o.FsName = value
	case "subtype":
		if value != Subtype {
			return optionError(name+"="+value, "It is always "+Subtype+", which is how umount knows the mount")
		}
	case "uid", "gid":
		id, err := strconv.ParseUint(value, 10, 32)
		if err != nil || id == math.MaxUint32 {
			return optionError(name+"="+value, "It takes a number")
		}
		number := uint32(id)
		if name == "uid" {
			o.UID = &number
		} else {
			o.GID = &number
		}
	case "umask":
		mask, err := strconv.ParseUint(value, 8, 32)
		if err != nil || mask > MaxUmask {
			return optionError(name+"="+value, "It takes three octal digits, such as 022")
		}
		o.Umask = uint32(mask)
	case "max_read":
		size, err := strconv.ParseUint(value, 10, 32)
		if err != nil || size < minRequest || size > maxRequest {
			return optionError(name+"="+value, fmt.Sprintf("It takes %d to %d bytes", minRequest, maxRequest))
		}
		o.maxRead = int(size)
	default:
		return optionError(name+"="+value, "It isn't known. Known are: "+strings.Join(knownOptions(), ", "))
	}
	return nil
}

// knownOptions are those worth telling about.
func knownOptions() []string {
	return []string{
		"ro", "allow_other", "default_permissions", "nosuid", "nodev", "noexec", "noatime", "nonempty",
		"uid=N", "gid=N", "umask=OCTAL", "fsname=TEXT", "max_read=BYTES",
	}
}

func optionError(option, hint string) error {
	return &Error{Op: "mount", Path: "-o " + option, Hint: hint, Err: ErrOption}
}

// kernelOptions are the options that aren't flags.
func (o *Options) kernelOptions(direct bool) []string {
	var options []string
	if o.defPerms {
		options = append(options, "default_permissions")
	}
	if !direct {
		options = append(options, o.mount...) // fusermount3 makes flags of them
	}
	return options
}
