package overlay

import "errors"

// Errors of a Store and its overlays. Compare with errors.Is.
var (
	// ErrChanged: the overlay was made over other bytes than those that are there now.
	ErrChanged = errors.New("the backup has changed under what was written to it")
	// ErrDamaged: the files of the overlay aren't what was written.
	ErrDamaged = errDamaged
	// ErrBusy: the overlay is open.
	ErrBusy = errors.New("in use")
	// ErrLimit: the folder holds as much as it may.
	ErrLimit = errors.New("the limit of the scratch folder is reached")
	// ErrLocked: another process has the folder.
	ErrLocked = errors.New("in use by another process")
	// ErrRange: an offset outside of the image.
	ErrRange = errors.New("outside of the image")
	// ErrFailed: an earlier write could not be made durable, and may be lost.
	ErrFailed = errors.New("an earlier write may be lost")
)
