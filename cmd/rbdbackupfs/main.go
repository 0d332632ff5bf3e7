// Command rbdbackupfs shows a directory of Ceph RBD exports as a file system
// in which every snapshot of every image is a file.
//
// One file holds one command: its options, the function that adds its flags,
// and the function that runs it. The rest is what they share: app.go (exit
// codes and messages), engine.go (the packages underneath), session.go (an
// index of one's own, or the running mount that has it), report.go (JSON).
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), commandLine(os.Args), os.Stdout, os.Stderr))
}
