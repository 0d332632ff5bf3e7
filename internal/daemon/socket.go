package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	socketName = "socket"
	// maxSocketPath is what fits into sockaddr_un with its final NUL.
	maxSocketPath = 107
)

// SocketPath is where the daemon of the index folder dir listens.
func SocketPath(dir string) string { return filepath.Join(dir, socketName) }

// Listen opens the socket beside the index, mode 0600. Only the holder of the
// lock may call it, so a socket that is already there is a dead one's.
func (l *Lock) Listen() (net.Listener, error) {
	path := SocketPath(l.dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, &Error{Op: "remove the old socket", Path: path, Err: err}
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var chmod error
		// Linux gives the socket file the mode of the unbound socket: there is
		// no moment at which others could connect.
		err := conn.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	listener, err := config.Listen(context.Background(), "unix", short)
	if err != nil {
		return nil, &Error{Op: "listen on", Path: path, Hint: "give an index folder on a local disk with --index DIR", Err: err}
	}
	// Its name may be one through a descriptor that is closed by then.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return &ownListener{Listener: listener, path: path}, nil
}

// An ownListener removes its socket file under the name it really has.
type ownListener struct {
	net.Listener
	path string
}

// Close stops listening and removes the socket file.
func (l *ownListener) Close() error {
	return errors.Join(l.Listener.Close(), os.Remove(l.path))
}

// dial connects to the socket at path, of any length.
func dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", short)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s", ErrNotRunning, path)
	case err != nil:
		return nil, &Error{Op: "connect to", Path: path, Err: err}
	}
	return conn, nil
}

// shortPath gives a name of the same file that fits into a socket address:
// long ones go through a descriptor of their folder. Call done after use.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("%w at %s", ErrNotRunning, path)
	}
	if err != nil {
		return "", nil, &Error{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	return short, func() { dir.Close() }, nil
}
