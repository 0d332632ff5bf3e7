package fs

import (
	"context"
	"log/slog"
	"strings"
)

// fuseLog takes what go-fuse has to say, which is rare, and mostly about replies
// that the kernel doesn't want any more. go-fuse wants a log.Logger:
// slog.NewLogLogger makes one of this.
type fuseLog struct{ slog.Handler }

// Handle leaves out what a reader of the device sees when the mount was taken
// away by force.
func (l fuseLog) Handle(ctx context.Context, record slog.Record) error {
	if strings.Contains(record.Message, "connection abort") {
		return nil
	}
	line := slog.NewRecord(record.Time, record.Level, "go-fuse", record.PC)
	line.AddAttrs(slog.String("text", record.Message))
	return l.Handler.Handle(ctx, line)
}
