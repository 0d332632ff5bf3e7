// Package target is the vocabulary between a restore and what it writes to: a
// Ceph cluster (package ceph) or a folder of raw files (package restore).
//
//	fs ───────> restore ──> target.Target <── ceph
//	(import/)      └──────> target.Target <── restore.Folder
//
// It lies below all of them since neither knows the other. It has names, options
// and interfaces, and no code that restores anything.
//
// # What a target promises
//
// A restore is all or nothing. A new image grows where nobody takes it for the
// image: Create gives it another name, Commit the right one. An image that exists
// is guarded before its first change, and Abort brings back what it was. What
// Abort needs is known from the Job alone, which the caller makes durable before
// it calls Create or Guard: after a crash Recover does the same.
//
// Every method may wait for the cluster or the disk, and returns early with the
// context's error where it can. Errors are *Error, with the errno that the rbd
// command gives for the same mistake.
package target
