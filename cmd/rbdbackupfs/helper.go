package main

import (
	"path/filepath"
	"strings"
)

// commandLine turns the arguments of the process into a command line without
// the program's name. mount(8) and mount.fuse3(8) have forms of their own:
//
//	rbdbackupfs REPO MOUNTPOINT -o OPTIONS              type fuse.rbdbackupfs
//	mount.rbdbackupfs REPO MOUNTPOINT [-sfnv] -o OPTIONS   type rbdbackupfs
//
// An absolute path where a command is expected is the first of these.
func commandLine(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	rest := args[1:]
	if name := filepath.Base(args[0]); strings.HasPrefix(name, "mount.") {
		return append([]string{"mount"}, withoutMountFlags(rest)...)
	}
	if len(rest) >= 2 && filepath.IsAbs(rest[0]) {
		return append([]string{"mount"}, rest...)
	}
	return rest
}

// withoutMountFlags drops what mount(8) hands to its helpers and what means
// nothing here: -s (tolerate options), -n (no mtab), -v, -t TYPE, -N NAMESPACE.
// -f (do as if) would be our --foreground: there is nothing to pretend.
func withoutMountFlags(args []string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-t" || arg == "-N":
			i++
		case len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "sfnv") == "":
		default:
			kept = append(kept, arg)
		}
	}
	return kept
}
