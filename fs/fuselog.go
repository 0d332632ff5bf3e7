package fs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// fuseLog takes what go-fuse has to say, which is rare, and mostly about replies
// that the kernel doesn't want any more. go-fuse wants a log.Logger:
// slog.NewLogLogger makes one of this.
type fuseLog struct{ slog.Handler }

// Handle leaves out what is only the end of a mount in use.
func (l fuseLog) Handle(ctx context.Context, record slog.Record) error {
	if takenAway(record.Message) || nobodyWaits(record.Message) {
		return nil
	}
	line := slog.NewRecord(record.Time, record.Level, "go-fuse", record.PC)
	line.AddAttrs(slog.String("text", record.Message))
	return l.Handler.Handle(ctx, line)
}

// takenAway is what a reader of the device sees when the mount was taken away by
// force.
func takenAway(message string) bool {
	return strings.Contains(message, "connection abort")
}

// nobodyWaits is about the answer to a read ahead, which an umount doesn't wait for.
// It is left out for reads alone: for nothing else should there be an answer to what the
// kernel doesn't know.
func nobodyWaits(message string) bool {
	return strings.HasSuffix(message, fmt.Sprintf("err: %v. opcode: READ", fuse.ENOENT))
}
