// Package restore takes an export, or snapshots of the repository, to a target.
//
//	fs, import/ ──> Manager.Start ──> Job ──> raw ────┐
//	                                   └────> stream ─┤     ┌─> Folder (raw files)
//	cmd, restore ─> Manager.NewRestore ─> points ─────┴> sink ─> target.Image
//	                                                        └─> package ceph
//
// A Job is fed by writes to a file: what is being written shows in its first bytes.
// A stream is parsed as it comes in, and raw bytes are put where they belong. Either
// ends in a sink, which writes to the image in parallel, in order where ranges
// overlap, and from a bounded number of buffers: a target that is slow holds up
// the writer, not the memory.
//
// # All or nothing
//
//	the journal has the job        and only then the target acts
//	create, or open and guard      under another name, or with a way back
//	apply                          an error, or an end before the end: undone
//	flush
//	the journal says "complete"    from here on a crash is finished, not undone
//	commit                         the name, or no more way back
//
// The journal is a file for each restore (journal.go), kept beside the index. After a
// crash the next mount, or "rbdbackupfs jobs --recover", ends what it tells of.
//
// # What it is not
//
// It knows no FUSE, no librbd and no index: bytes come from a Source or by calls,
// and go to a target.Target.
package restore
