package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writerVar makes the test program write a file in import/, as another process
// and in the way it names.
const writerVar = "RBDBACKUPFS_TEST_WRITER"

const writerBytes = 8 << 20

func writer(mode, path string) int {
	if err := write(mode, path); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func write(mode, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	switch mode {
	case "urgent": // signals all the time
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGURG, syscall.SIGUSR1)
		runtime.LockOSThread()
		go signalThread(syscall.Gettid())
	case "leave", "leave, failing": // many threads, and no close
		for range 8 {
			go func() {
				runtime.LockOSThread()
				select {}
			}()
		}
	}
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for range writerBytes / len(block) {
		n, err := syscall.Write(int(f.Fd()), block)
		if err != nil || n != len(block) {
			return fmt.Errorf("%d bytes written: %w", n, err)
		}
	}
	switch mode {
	case "leave":
		return nil
	case "leave, failing":
		return errors.New("as asked")
	}
	return syscall.Close(int(f.Fd()))
}

func signalThread(thread int) {
	ticker := time.NewTicker(100 * time.Microsecond)
	for range ticker.C {
		for _, s := range []syscall.Signal{syscall.SIGURG, syscall.SIGUSR1} {
			if unix.Tgkill(os.Getpid(), thread, s) != nil {
				return
			}
		}
	}
}

// writerCommand is the test program as a writer.
func writerCommand(t testing.TB, mode, path string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, path)
	cmd.Env = append(os.Environ(), writerVar+"="+mode)
	return cmd
}
