package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"rbdbackupfs/internal/daemon"
	"rbdbackupfs/rbddiff"
)

// limit ends a wait that would not end.
const limit = 30 * time.Second

// lookAgain is how long an event is waited for that may have been told too early.
const lookAgain = 200 * time.Millisecond

// commands are those of the scripts.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exits":  exits,
		"gone":   waitGone,
		"mkdiff": makeDiff,
		"signal": signalMount,
		"hold":   hold,
		"drop":   drop,
		"notify": notify,
		"free":   assertFree,
		"ended":  waitEnded,
	}
}

// exits runs a command and checks its exit status: exits N COMMAND...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// waitGone waits until nothing is mounted at a folder: gone MOUNTPOINT.
func waitGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone MOUNTPOINT")
	}
	table, err := os.Open("/proc/self/mountinfo")
	ts.Check(err)
	defer table.Close()
	for end := time.Now().Add(limit); ; {
		text, err := io.ReadAll(io.NewSectionReader(table, 0, 16<<20))
		ts.Check(err)
		if !strings.Contains(string(text), " "+ts.MkAbs(args[0])+" ") {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s is still mounted", args[0])
		}
		// The kernel tells of changes of the table, see proc_pid_mountinfo(5); since
		// Linux 6.18 at times before the table has them: it is looked at again then.
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}}, int(lookAgain.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			ts.Check(err)
		}
	}
}

// makeDiff writes a backup file: mkdiff FILE [from=NAME] [to=NAME] [size=N]
// [data=N] [cut=N]. Names are Go string contents (\n, \xff); data is the number
// of bytes from offset 0, cut how many are missing at the end of the file. Its
// time is always the same.
func makeDiff(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mkdiff FILE [from=NAME] [to=NAME] [size=N] [data=N] [cut=N]")
	}
	var from, to string
	numbers := map[string]int64{"size": 1 << 20, "data": 4096, "cut": 0}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "from":
			from, err = strconv.Unquote(`"` + value + `"`)
		case "to":
			to, err = strconv.Unquote(`"` + value + `"`)
		default:
			numbers[key], err = strconv.ParseInt(value, 0, 64)
		}
		ts.Check(err)
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(writeDiff(path, from, to, numbers["size"], numbers["data"]))
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()-numbers["cut"]))
	when := time.Date(2024, time.May, 1, 10, 30, 0, 0, time.UTC)
	ts.Check(os.Chtimes(path, when, when))
}

func writeDiff(path, from, to string, size, data int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	w, err := rbddiff.NewWriter(file, rbddiff.DiffV1)
	if err != nil {
		return err
	}
	records := []rbddiff.Record{{Kind: rbddiff.DiffStart, Count: 1}}
	if from != "" {
		records = append(records, rbddiff.Record{Kind: rbddiff.From, Name: from})
	}
	if to != "" {
		records = append(records, rbddiff.Record{Kind: rbddiff.To, Name: to})
	}
	records = append(records, rbddiff.Record{Kind: rbddiff.Size, Size: size})
	if data > 0 {
		records = append(records, rbddiff.Record{Kind: rbddiff.Data, Length: data})
	}
	for _, record := range records {
		if err := w.WriteRecord(record); err != nil {
			return err
		}
	}
	if _, err := w.Write([]byte(strings.Repeat("A", int(data)))); err != nil {
		return err
	}
	return errors.Join(w.WriteRecord(rbddiff.Record{Kind: rbddiff.End}), w.Close())
}

// signalMount sends a signal to the process of a mount: signal TERM|KILL
// MOUNTPOINT. After KILL it waits for its end.
func signalMount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal TERM|KILL MOUNTPOINT")
	}
	text, err := os.ReadFile(filepath.Join(ts.MkAbs(args[1]), "status.json"))
	ts.Check(err)
	var status struct {
		Daemon struct{ PID int }
	}
	ts.Check(json.Unmarshal(text, &status))
	process, err := unix.PidfdOpen(status.Daemon.PID, 0)
	ts.Check(err)
	defer func() { _ = unix.Close(process) }()
	number := unix.SignalNum("SIG" + args[0])
	ts.Check(unix.PidfdSendSignal(process, number, nil, 0))
	if number == unix.SIGKILL {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		ts.Check(err)
	}
}

type heldKey struct{}

// heldFiles keep mounts busy.
type heldFiles struct{ files []*os.File }

// hold opens a file and keeps it: hold FILE.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold FILE")
	}
	file, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	held := ts.Value(heldKey{}).(*heldFiles)
	held.files = append(held.files, file)
	ts.Defer(func() { _ = file.Close() })
}

// drop closes what hold has opened.
func drop(ts *testscript.TestScript, _ bool, _ []string) {
	held := ts.Value(heldKey{}).(*heldFiles)
	for _, file := range held.files {
		ts.Check(file.Close())
	}
	held.files = nil
}

type socketKey struct{}

// A notifySocket stands for systemd.
type notifySocket struct{ conn *net.UnixConn }

// notify listens as systemd does (notify listen), or waits for a message
// (notify READY=1).
func notify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: notify listen|MESSAGE")
	}
	socket := ts.Value(socketKey{}).(*notifySocket)
	if args[0] == "listen" {
		address := &net.UnixAddr{Name: "@rbdbackupfs-test-" + filepath.Base(ts.MkAbs(".")) + strconv.Itoa(os.Getpid()), Net: "unixgram"}
		conn, err := net.ListenUnixgram("unixgram", address)
		ts.Check(err)
		socket.conn = conn
		ts.Setenv("NOTIFY_SOCKET", address.Name)
		ts.Defer(func() { _ = conn.Close() })
		return
	}
	ts.Check(socket.conn.SetReadDeadline(time.Now().Add(limit)))
	message := make([]byte, 4096)
	n, err := socket.conn.Read(message)
	ts.Check(err)
	if string(message[:n]) != args[0] {
		ts.Fatalf("systemd was told %q, not %q", message[:n], args[0])
	}
}

// assertFree fails unless the lock of an index folder can be had at once:
// free INDEX.
func assertFree(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: free INDEX")
	}
	file, err := os.Open(filepath.Join(ts.MkAbs(args[0]), "lock"))
	ts.Check(err)
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if free := err == nil; free == neg {
		ts.Fatalf("lock of %s: %v", args[0], err)
	}
}

// waitEnded waits until nobody holds the lock of an index folder: ended INDEX.
func waitEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ended INDEX")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ts.Check(daemon.WaitFree(ctx, ts.MkAbs(args[0])))
}
