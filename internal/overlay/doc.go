// Package overlay keeps what is written to images that can't be written to: a private
// layer of blocks over each of them, in a folder of bounded size.
//
// A block is 4 KiB at a multiple of that. It is either the base's, which is the image
// below, or owned by the overlay, which then has all of its bytes. What is written to a
// part of a block makes the overlay own all of it.
//
// # Files
//
// Each overlay has two files, named by a hash of the image and the snapshot. They are
// made with the first write.
//
//	<hash>.data   the owned blocks at their own offsets, holes elsewhere; as long as the image
//	<hash>.map    which blocks those are: a log of records
//	lock          locked by the process that uses the folder
//
// A record of the map is
//
//	le32 length of the payload    1 byte to 4 MiB
//	le32 CRC-32C of the length
//	le32 CRC-32C of the payload
//	payload                       a byte for its kind, and then
//	                              'H'  JSON: the format's version, and what the overlay lies on
//	                              'O'  runs of owned blocks: uvarint gap, uvarint count, ...
//	                                   gap is the number of blocks since the end of the run before
//
// The first record is the only 'H'. Blocks are never given back, so the map is the union
// of its records, whatever their order.
//
// # Crashes
//
// Data comes before the map that speaks of it: a sync makes the data file durable, then
// appends the blocks that are new to the map, then makes that durable. A kill at any
// moment, or a power failure, therefore loses at most what was written since the last
// sync, in units of blocks, like a disk with a cache; and a block is never half of the
// base's and half of the overlay's. What a kill leaves in the data file beside the owned
// blocks is given back when the folder is opened, and a record that was cut off is too.
package overlay
