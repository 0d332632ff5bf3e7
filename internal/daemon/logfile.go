package daemon

import (
	"errors"
	"os"
	"sync"
)

// A LogFile is a log that can't fill the disk: past its limit it is renamed
// to <path>.1, in place of an older one, and begun anew. Safe for concurrent use.
type LogFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLogFile opens the log at path to append to it, mode 0600. A limit of 0
// means none: who names a file looks after it.
func OpenLogFile(path string, limit int64) (*LogFile, error) {
	l := &LogFile{path: path, limit: limit}
	if err := l.open(); err != nil {
		return nil, &Error{Op: "open the log", Path: path, Hint: "give another file with --log-file FILE", Err: err}
	}
	return l, nil
}

// Write appends one record, never a part of it in another file.
func (l *LogFile) Write(record []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit > 0 && l.size > 0 && l.size+int64(len(record)) > l.limit {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(record)
	l.size += int64(n)
	return n, err
}

// File gives the open file, for a crash to be written to. It is another one
// after a rotation.
func (l *LogFile) File() *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

func (l *LogFile) rotate() error {
	return errors.Join(os.Rename(l.path, l.path+".1"), l.file.Close(), l.open())
}

func (l *LogFile) open() error {
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size = file, info.Size()
	return nil
}
