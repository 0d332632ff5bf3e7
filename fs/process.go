package fs

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A caller is the thread that a request came from, by its id; zero where that
// isn't known, such as in a container that this process can't see into.
type caller uint32

func callerOf(ctx context.Context) caller {
	if from, known := fuse.FromContext(ctx); known {
		return caller(from.Pid)
	}
	return 0
}

// file is the thread's file of that name in /proc.
func (c caller) file(name string) string {
	return "/proc/" + strconv.FormatUint(uint64(c), 10) + "/" + name
}

// group is the process that the thread belongs to, zero if that isn't known.
func (c caller) group() int {
	status, err := os.ReadFile(c.file("status"))
	if c == 0 || err != nil {
		return 0
	}
	group, err := strconv.Atoi(statusField(status, "Tgid"))
	if err != nil {
		return 0
	}
	return group
}

// statusField returns a field of /proc/<pid>/status.
func statusField(status []byte, name string) string {
	_, rest, found := bytes.Cut(status, []byte("\n"+name+":"))
	if !found {
		return ""
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(bytes.TrimSpace(line))
}

// Flags of a task, from linux/sched.h.
const (
	taskExiting  = 0x4
	taskSignaled = 0x400
)

// Positions in /proc/<pid>/stat after the program's name, from proc(5).
const (
	statFlags    = 9 - 3
	statExitCode = 52 - 3
)

// killed tells whether the thread is in its end, and a signal is the cause. A
// thread of a process that ends by itself dies by a signal too: then the exit
// code, for those who may see it, has none.
//
// A thread in its end has no memory any more, which status tells. One that has
// may be in execve(2), which closes files, and holds a lock meanwhile that a look
// at its stat would wait for: these two would wait for each other.
func (c caller) killed() bool {
	status, err := os.ReadFile(c.file("status"))
	if c == 0 || err != nil || statusField(status, "VmSize") != "" {
		return false
	}
	data, err := os.ReadFile(c.file("stat"))
	if err != nil {
		return false
	}
	flags, code := parseStat(string(data))
	const dead = taskExiting | taskSignaled
	if flags&dead != dead {
		return false
	}
	if code != 0 {
		return code&0x7f != 0
	}
	_, err = os.Readlink(c.file("cwd"))
	return errors.Is(err, iofs.ErrPermission) // then 0 may be anything
}

// parseStat returns the flags and the exit code of /proc/<pid>/stat, zero where
// these aren't. The name, in parentheses, may have anything in it.
func parseStat(stat string) (flags, code uint64) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	number := func(at int) uint64 {
		if at >= len(fields) {
			return 0
		}
		n, err := strconv.ParseUint(fields[at], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return number(statFlags), number(statExitCode)
}

// A callerState says what became of a thread whose request was interrupted.
type callerState int

const (
	callerUnknown callerState = iota // nothing can be told
	callerWaits                      // it waits, the signal doesn't end it
	callerDies                       // a signal is about to end it
	callerLeft                       // it waits no more
)

// state looks at a thread that was interrupted: from then on it waits for the
// answer in state D, and only a signal that ends it could change that.
func (c caller) state() callerState {
	if c == 0 {
		return callerUnknown
	}
	status, err := os.ReadFile(c.file("status"))
	if err != nil {
		return callerLeft
	}
	switch {
	case fatalPending(status):
		return callerDies
	case strings.HasPrefix(statusField(status, "State"), "D"):
		return callerWaits
	default:
		return callerLeft
	}
}

// fatalPending tells whether a signal waits that ends the process: its default
// action does, and it is neither blocked, ignored nor caught. For most of them
// the kernel has made it a SIGKILL by then.
func fatalPending(status []byte) bool {
	set := func(name string) uint64 {
		n, err := strconv.ParseUint(statusField(status, name), 16, 64)
		if err != nil {
			return 0
		}
		return n
	}
	var harmless uint64
	for _, signal := range []syscall.Signal{
		syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
	} {
		harmless |= 1 << (signal - 1)
	}
	pending := set("SigPnd") | set("ShdPnd")
	return pending&^(set("SigBlk")|set("SigIgn")|set("SigCgt")|harmless) != 0
}
