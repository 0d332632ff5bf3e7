// Package daemon is what a running mount shows to other processes of the same
// host: a lock on the index folder, a unix socket beside it, and the way into
// the background.
//
//	<index>/lock     flock(2) while somebody has the index open; who, as JSON
//	<index>/socket   HTTP and JSON over a unix socket, mode 0600
//	<index>/log      log of a daemon that has no better place for it
//
// A command that finds the lock taken by a mount asks that mount through the
// socket; a command that gets the lock opens the index itself. So the lock is
// the only arbiter: whoever holds it may remove a stale socket.
//
// The package knows nothing of images and snapshots: routes and their JSON
// belong to the caller.
package daemon
