package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReadyFD is the descriptor on which a child started by Background tells that
// it is ready.
const ReadyFD = 3

// endPatience is how long a child may take to end after its parent was
// interrupted: it has a mount to undo.
const endPatience = 10 * time.Second

// A Command is a program to run in the background.
type Command struct {
	Path   string   // what to execute
	Args   []string // with the program's name in front, as os.Args
	Stdout io.Writer
	Stderr io.Writer
}

// Background starts the command in a session of its own and returns 0 as soon
// as it is ready, or its exit status if it ends before that; an error where it
// can't be started or is killed by a signal. Until then the child writes to
// Stdout and Stderr. When ctx ends first the child is told to end (SIGTERM)
// and waited for.
func Background(ctx context.Context, c Command) (int, error) {
	ready, tell, err := os.Pipe()
	if err != nil {
		return 1, err
	}
	defer ready.Close()
	child := &exec.Cmd{
		Path: c.Path, Args: c.Args,
		ExtraFiles:  []*os.File{tell},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var copies sync.WaitGroup
	after := func() {}
	if child.Stdout, after, err = childOutput(c.Stdout, &copies, after); err == nil {
		child.Stderr, after, err = childOutput(c.Stderr, &copies, after)
	}
	if err == nil {
		err = child.Start()
	}
	after()
	tell.Close()
	if err != nil {
		return 1, fmt.Errorf("start the background process: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { end(child) })
	defer stop()
	// One byte is readiness; none is the end of the child.
	if n, _ := ready.Read(make([]byte, 1)); n == 1 && stop() {
		copies.Wait()
		return 0, child.Process.Release()
	}
	err = child.Wait()
	copies.Wait()
	return exitStatus(child.ProcessState, err)
}

func exitStatus(state *os.ProcessState, err error) (int, error) {
	if state == nil {
		return 1, err
	}
	if code := state.ExitCode(); code > 0 {
		return code, nil
	}
	return 1, fmt.Errorf("the background process ended unexpectedly (%s)", state)
}

// end asks the child to end, and makes it end when it doesn't.
func end(child *exec.Cmd) {
	if child.Process.Signal(unix.SIGTERM) != nil {
		return
	}
	time.AfterFunc(endPatience, func() {
		// The process is waited for by Background: where that has returned,
		// Kill does nothing.
		_ = child.Process.Kill()
	})
}

// childOutput gives what the child can write to directly: a file as it is,
// anything else through a pipe. exec.Cmd would do the same, but its Wait then
// waits for the child's end.
func childOutput(w io.Writer, copies *sync.WaitGroup, before func()) (*os.File, func(), error) {
	if file, ok := w.(*os.File); ok {
		return file, before, nil
	}
	r, file, err := os.Pipe()
	if err != nil {
		return nil, before, err
	}
	copies.Go(func() {
		_, _ = io.Copy(w, r)
		r.Close()
	})
	return file, func() { before(); file.Close() }, nil
}

// A Parent is who started this process with Background.
type Parent struct {
	pipe *os.File
	gone chan struct{}
}

// OpenParent takes the descriptor that Background left, ReadyFD.
func OpenParent(fd int) (*Parent, error) {
	unix.CloseOnExec(fd)
	if err := unix.Fstat(fd, new(unix.Stat_t)); err != nil {
		return nil, fmt.Errorf("no parent waits on descriptor %d: %w", fd, err)
	}
	p := &Parent{pipe: os.NewFile(uintptr(fd), "ready"), gone: make(chan struct{})}
	go p.watch(fd)
	return p, nil
}

// Gone is closed when the parent has ended; after Ready that is as it should be.
func (p *Parent) Gone() <-chan struct{} { return p.gone }

// watch waits for the end of the pipe's other side, which is an error to a
// writer. It holds the pipe itself open for as long.
func (p *Parent) watch(fd int) {
	defer close(p.gone)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, -1); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Ready leaves the terminal and the current folder, and tells the parent that
// it can go. An error means that the parent is gone: nobody learned of it.
func (p *Parent) Ready() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return errors.Join(err, null.Close())
		}
	}
	err = os.Chdir("/")
	_, told := p.pipe.Write([]byte{'R'})
	return errors.Join(err, told, p.pipe.Close(), null.Close())
}
