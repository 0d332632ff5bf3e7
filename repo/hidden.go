package repo

import "strings"

// A reason is why a path is Hidden, Unsettled or Unreadable. It is one byte in
// the tree instead of two strings.
type reason uint8

const (
	reasonNone reason = iota
	reasonDotFile
	reasonTempName
	reasonDotFolder
	reasonSystemFolder
	reasonSymlink
	reasonSocket
	reasonPipe
	reasonDevice
	reasonTooDeep
	reasonWritten
	reasonOpen
	reasonDenied
	reasonIO
)

const moveHere = "move the file itself here, or bring its folder in with `mount --bind`"

// words returns the line and the cure that a user gets.
func (r reason) words() (why, cure string) {
	switch r {
	case reasonDotFile:
		return "its name begins with '.', as names of half-copied files do", "rename it once it is complete"
	case reasonTempName:
		return "its name ends as those of half-copied files do", "rename it once it is complete"
	case reasonDotFolder:
		return "folders whose name begins with '.' are not read", "rename the folder if it holds backups"
	case reasonSystemFolder:
		return "folders of this name belong to the system that stores the files", "rename the folder if it holds backups"
	case reasonSymlink:
		return "is a symbolic link, and links are never followed", moveHere
	case reasonSocket:
		return "is a socket, not a regular file", ""
	case reasonPipe:
		return "is a named pipe, not a regular file", "write the export into a regular file"
	case reasonDevice:
		return "is a device, not a regular file", "export its contents into a regular file"
	case reasonTooDeep:
		return "folders are nested too deeply here", "move the folder further up"
	case reasonWritten:
		return "is being written", ""
	case reasonOpen:
		return "is being written: a process has it open for writing", "if nothing should write to it, see `fuser -v`"
	case reasonDenied:
		return "permission denied", "let the user that runs rbdbackupfs read it (chmod, chown or setfacl)"
	case reasonIO:
		return "it can't be opened: I/O error", "look into the kernel's log (dmesg)"
	default:
		return "", ""
	}
}

// sentence is a hint as it follows a full stop.
func sentence(hint string) string {
	if hint == "" {
		return ""
	}
	return strings.ToUpper(hint[:1]) + hint[1:]
}

// hiddenFile tells whether a regular file of this name is left alone.
//
// The suffixes are those of programs that copy into a temporary name and
// rename it: rclone .partial, WinSCP .filepart, KIO, ownCloud and Firefox
// .part, and .tmp as everybody's habit. rsync, lftp and Syncthing use leading
// dots. cp, scp, curl and rbd write to the final name.
func hiddenFile(name string) reason {
	if name[0] == '.' {
		return reasonDotFile
	}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return reasonNone
	}
	switch strings.ToLower(name[dot:]) {
	case ".partial", ".tmp", ".part", ".filepart":
		return reasonTempName
	}
	return reasonNone
}

// hiddenFolder tells whether a folder of this name is not descended into.
//
// Leading dots cover .snapshot, .zfs and .Trash. The others are what storage
// systems keep in their shares: copies of all files at earlier times, deleted
// files, thumbnails. Backups in there must not be served a second time.
func hiddenFolder(name string) reason {
	if name[0] == '.' {
		return reasonDotFolder
	}
	switch name {
	case "lost+found", // ext4
		"~snapshot",                       // NetApp
		"#snapshot", "#recycle", "@eaDir", // Synology
		"@Recently-Snapshot", "@Recycle", // QNAP
		"$RECYCLE.BIN", "System Volume Information": // Windows
		return reasonSystemFolder
	}
	return reasonNone
}
