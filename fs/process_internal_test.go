package fs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestParseStat(t *testing.T) {
	tail := strings.Repeat(" 0", statExitCode-statFlags-1)
	for stat, want := range map[string][2]uint64{
		"12 (cp) R 1 1 1 0 -1 1028" + tail + " 9":        {1028, 9},
		"12 (a) R (b) c) Z 1 1 1 0 -1 4" + tail + " 256": {4, 256},
		"12 (cp) R 1 1 1 0 -1 1028":                      {1028, 0},
		"":                                               {},
		"12 (cp) R 1 1 1 0 -1 x" + tail + " y and something": {},
	} {
		if flags, code := parseStat(stat); flags != want[0] || code != want[1] {
			t.Errorf("%q: %d, %d, want %v", stat, flags, code, want)
		}
	}
}

func TestFatalPending(t *testing.T) {
	bit := func(signals ...syscall.Signal) string {
		var set uint64
		for _, s := range signals {
			set |= 1 << (s - 1)
		}
		return fmt.Sprintf("%016x", set)
	}
	none := bit()
	for name, test := range map[string]struct {
		own, shared, blocked, ignored, caught string
		want                                  bool
	}{
		"nothing":         {none, none, none, none, none, false},
		"killed":          {bit(syscall.SIGKILL), none, none, none, none, true},
		"killed, shared":  {none, bit(syscall.SIGKILL, syscall.SIGURG), none, none, bit(syscall.SIGURG), true},
		"harmless":        {bit(syscall.SIGURG, syscall.SIGCHLD), bit(syscall.SIGWINCH), none, none, none, false},
		"quit":            {none, bit(syscall.SIGQUIT), none, none, none, true},
		"quit is blocked": {none, bit(syscall.SIGQUIT), bit(syscall.SIGQUIT), none, none, false},
		"quit is ignored": {none, bit(syscall.SIGQUIT), none, bit(syscall.SIGQUIT), none, false},
		"quit is caught":  {bit(syscall.SIGQUIT), none, none, none, bit(syscall.SIGQUIT), false},
	} {
		status := "Name:\tcp\nSigPnd:\t" + test.own + "\nShdPnd:\t" + test.shared + "\nSigBlk:\t" + test.blocked +
			"\nSigIgn:\t" + test.ignored + "\nSigCgt:\t" + test.caught + "\n"
		if got := fatalPending([]byte(status)); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestCaller(t *testing.T) {
	self := caller(os.Getpid())
	if self.group() != os.Getpid() || self.killed() || self.state() != callerLeft {
		t.Errorf("self: group %d, killed %t, state %d", self.group(), self.killed(), self.state())
	}
	var none caller
	if none.group() != 0 || none.killed() || none.state() != callerUnknown {
		t.Errorf("nobody: group %d, killed %t, state %d", none.group(), none.killed(), none.state())
	}
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	gone := caller(cmd.Process.Pid)
	if gone.group() != 0 || gone.killed() || gone.state() != callerLeft {
		t.Errorf("gone: group %d, killed %t, state %d", gone.group(), gone.killed(), gone.state())
	}
	if callerOf(context.Background()) != 0 {
		t.Error("a caller without a request")
	}
}

// A call of a caller that can't be seen goes on for some time after a signal; that
// of one that waits no more ends soon; neither ends without a signal.
func TestPatient(t *testing.T) {
	for from, want := range map[caller]int{0: unknownLooks - 1, caller(os.Getpid()): leftLooks - 1} {
		waits := make(chan time.Duration, 100)
		tr := &tree{opts: Options{Clock: &Clock{
			Now: time.Now,
			WithTimeout: func(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
				waits <- d
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				return ctx, cancel
			},
		}}}
		cancel := make(chan struct{})
		call, end := tr.patient(&fuse.Context{Caller: fuse.Caller{Pid: uint32(from)}, Cancel: cancel})
		if call.Err() != nil {
			t.Error("it ended at once")
		}
		close(cancel)
		<-call.Done()
		if len(waits) != want || <-waits != watchPause {
			t.Errorf("caller %d: %d pauses, want %d", from, len(waits), want)
		}
		end()
	}
}
