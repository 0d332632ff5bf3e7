package repo

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// heldForWriting tells whether some process of this machine has the file open
// for writing, or mapped so. fd is open for reading only; st is its fstat.
// False also means that it can't be told.
//
// The kernel grants a read lease only on a file that nobody has open for
// writing, so one is asked for and given back at once. What could go wrong:
//
//   - A writer that opens the file in these few microseconds waits until the
//     lease is given back; only an O_NONBLOCK open is refused (EWOULDBLOCK).
//   - The kernel then sends a signal to this process. Its default, SIGIO, would
//     kill a Go program when it arrives on a thread of a C library. SIGURG is
//     ignored by default everywhere, and Go expects stray ones, so that is what
//     is asked for, and without it there is no lease.
//   - EAGAIN means a writer only on file systems where the kernel itself counts
//     them: the caller asks only there (fsLease).
//   - Asking for another user's file takes CAP_LEASE, and a refusal is noted in
//     the audit log of SELinux, for each file: so only owner and root ask.
func heldForWriting(fd int, st *unix.Stat_t) bool {
	if euid := os.Geteuid(); euid != 0 && uint32(euid) != st.Uid {
		return false
	}
	if err := takeLease(fd); err != nil {
		return errors.Is(err, unix.EAGAIN)
	}
	giveBackLease(fd)
	return false
}

func takeLease(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETSIG, int(unix.SIGURG)); err != nil {
		return err
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return err
}

// giveBackLease can't fail on a lease that is there; closing fd would drop it
// as well.
func giveBackLease(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK) }
