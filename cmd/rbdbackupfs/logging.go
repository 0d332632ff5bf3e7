package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"log/syslog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/spf13/pflag"

	"rbdbackupfs/internal/daemon"
)

const (
	// logLimit bounds the log in the index folder; there may be two of them.
	logLimit = 4 << 20
	logName  = "log"
)

// logFlags say what is logged, how and where.
type logFlags struct{ format, level, file string }

func (f *logFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.format, "log-format", "text", "`text` or json")
	flags.StringVar(&f.level, "log-level", "info", "`debug`, info, warn or error")
	flags.StringVar(&f.file, "log-file", "", "`file` to append the log to (default: stderr with --foreground; else\nsyslog, or where there is none a file beside the index)")
}

func (f *logFlags) check() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return 0, usagef("--log-level %q is none of debug, info, warn, error", f.level)
	}
	if !slices.Contains([]string{"text", "json"}, f.format) {
		return 0, usagef("--log-format %q is neither text nor json", f.format)
	}
	return level, nil
}

// A logSink is where the log of a mount goes.
type logSink struct {
	*slog.Logger
	where string // for people
	late  *lateWriter
	close []io.Closer
}

// open chooses the place. In the background, without a file and without a
// syslog, that is the index folder, which UseFolder tells later.
func (f *logFlags) open(background bool, stderr io.Writer) (*logSink, error) {
	level, err := f.check()
	if err != nil {
		return nil, err
	}
	sink := &logSink{}
	switch {
	case f.file != "":
		path, err := filepath.Abs(f.file)
		if err != nil {
			return nil, err
		}
		file, err := daemon.OpenLogFile(path, 0)
		if err != nil {
			return nil, err
		}
		sink.where = path
		sink.close = append(sink.close, file)
		sink.Logger = slog.New(f.handler(file, level))
		return sink, setCrashOutput(file)
	case !background:
		sink.where = "stderr"
		sink.Logger = slog.New(f.handler(stderr, level))
		return sink, nil
	}
	if system, err := syslog.Dial("", "", syslog.LOG_DAEMON|syslog.LOG_INFO, "rbdbackupfs"); err == nil {
		sink.where = "syslog (journalctl -t rbdbackupfs)"
		sink.close = append(sink.close, system)
		sink.Logger = slog.New(f.syslogHandler(system, level))
		return sink, nil
	}
	sink.late = &lateWriter{w: stderr}
	sink.Logger = slog.New(f.handler(sink.late, level))
	return sink, nil
}

// UseFolder says where the index lies, in which a log without another place is
// kept; an index in memory has no folder, and then there is no log.
func (s *logSink) UseFolder(index string) error {
	if s.late == nil {
		return nil
	}
	if index == memoryIndex {
		s.where = "none; give one with --log-file FILE"
		s.late.set(io.Discard)
		return nil
	}
	file, err := daemon.OpenLogFile(filepath.Join(index, logName), logLimit)
	if err != nil {
		return err
	}
	s.where = filepath.Join(index, logName)
	s.close = append(s.close, file)
	s.late.set(file)
	return setCrashOutput(file)
}

// Close closes what was opened.
func (s *logSink) Close() error {
	var errs []error
	for _, c := range s.close {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// setCrashOutput keeps the reason of a crash, for which nobody watches stderr.
func setCrashOutput(file *daemon.LogFile) error {
	return debug.SetCrashOutput(file.File(), debug.CrashOptions{})
}

func (f *logFlags) handler(w io.Writer, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if f.format == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

// A lateWriter writes to what it is told to by then.
type lateWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lateWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (l *lateWriter) set(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.w = w
}

// A syslogHandler gives each level its own priority.
type syslogHandler struct{ debug, info, warn, err slog.Handler }

func (f *logFlags) syslogHandler(w *syslog.Writer, level slog.Level) slog.Handler {
	priority := func(write func(string) error) slog.Handler {
		return f.handler(writerFunc(write), level)
	}
	return syslogHandler{priority(w.Debug), priority(w.Info), priority(w.Warning), priority(w.Err)}
}

func (h syslogHandler) at(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return h.err
	case level >= slog.LevelWarn:
		return h.warn
	case level >= slog.LevelInfo:
		return h.info
	}
	return h.debug
}

// Enabled, Handle, WithAttrs and WithGroup make it a slog.Handler.
func (h syslogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.at(level).Enabled(ctx, level)
}

func (h syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.at(r.Level).Handle(ctx, r)
}

func (h syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return syslogHandler{h.debug.WithAttrs(attrs), h.info.WithAttrs(attrs), h.warn.WithAttrs(attrs), h.err.WithAttrs(attrs)}
}

func (h syslogHandler) WithGroup(name string) slog.Handler {
	return syslogHandler{h.debug.WithGroup(name), h.info.WithGroup(name), h.warn.WithGroup(name), h.err.WithGroup(name)}
}

type writerFunc func(string) error

func (f writerFunc) Write(p []byte) (int, error) { return len(p), f(string(p)) }
