package fs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"rbdbackupfs/chain"
	rbdfs "rbdbackupfs/fs"
	"rbdbackupfs/fs/fstest"
)

// manualClock ends waits when the test says so.
type manualClock struct{ expire chan struct{} }

func (c manualClock) options() rbdfs.Options {
	return rbdfs.Options{Clock: &rbdfs.Clock{
		Now: time.Now,
		WithTimeout: func(ctx context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			go func() {
				select {
				case <-c.expire:
					cancel()
				case <-ctx.Done():
				}
			}()
			return ctx, cancel
		},
	}}
}

// A lookup in a pending image gets the snapshot once the chain is known, and
// nothing else waits for it.
func TestLookupWaits(t *testing.T) {
	lib := small()
	lib.Pending("new")
	m := fstest.NewMount(t, lib, rbdfs.Options{LookupWait: time.Hour})
	var wg sync.WaitGroup
	results := map[string]func() error{
		"stat":   func() error { _, err := os.Stat(m.Images("new/s.img")); return err },
		"latest": func() error { _, err := os.Stat(m.Images("new/latest.img")); return err },
		"list":   func() error { _, err := os.ReadDir(m.Images("new")); return err },
	}
	for name, do := range results {
		wg.Go(func() {
			if err := do(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	for range results {
		if image := <-lib.Waiting(); image != "new" {
			t.Fatalf("somebody waits for %q", image)
		}
	}
	// While three wait:
	if got, err := os.ReadFile(m.Images("rbd/vm1/v1.img")); err != nil || string(got) != "first" {
		t.Errorf("another image: %q, %v", got, err)
	}
	if entries, err := os.ReadDir(m.Images()); err != nil || len(entries) != 3 {
		t.Errorf("images/: %v, %v", entries, err)
	}
	if _, err := os.Stat(m.Images("new/not-an-image")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a name that can't be a snapshot's: %v", err)
	}
	if _, err := os.Stat(m.Images("new")); err != nil {
		t.Error(err)
	}
	lib.Set("new", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x"))})
	wg.Wait()
}

func TestLookupGivesUp(t *testing.T) {
	lib := small()
	lib.Pending("new")
	clock := manualClock{expire: make(chan struct{})}
	m := fstest.NewMount(t, lib, clock.options())
	go func() {
		<-lib.Waiting()
		clock.expire <- struct{}{}
	}()
	if _, err := os.Stat(m.Images("new/s.img")); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("stat: %v, want EAGAIN", err)
	}
	go func() {
		<-lib.Waiting()
		clock.expire <- struct{}{}
	}()
	if _, err := os.ReadDir(m.Images("new")); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("list: %v, want EAGAIN", err)
	}
	// EAGAIN isn't kept by the kernel.
	lib.Set("new", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x"))})
	if _, err := os.Stat(m.Images("new/s.img")); err != nil {
		t.Error(err)
	}
}

func TestListingWaits(t *testing.T) {
	lib := fstest.New()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{LookupWait: time.Hour})
	if entries, err := os.ReadDir(m.Path); err != nil || len(entries) != 2 {
		t.Fatalf("the root: %v, %v", entries, err)
	}
	done := make(chan error)
	go func() {
		entries, err := os.ReadDir(m.Images())
		if err == nil && len(entries) != 1 {
			err = errors.New("not one entry")
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("images/ was listed before it was known: %v", err)
	default:
	}
	lib.List()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListingGivesUp(t *testing.T) {
	m := fstest.NewMount(t, fstest.New(), rbdfs.Options{LookupWait: time.Millisecond})
	if _, err := os.ReadDir(m.Images()); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("%v, want EAGAIN", err)
	}
}

// A process that waits can be ended.
func TestWaitIsInterrupted(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			lib := fstest.New().List()
			lib.Pending("new")
			m := fstest.NewMount(t, lib, rbdfs.Options{LookupWait: time.Hour})
			var said bytes.Buffer
			cmd := exec.Command("ls", m.Images("new"))
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-lib.Waiting()
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != signal {
				t.Errorf("%v, %s", err, &said)
			}
			if logged := m.Log.Take("request ended in an error"); len(logged) != 0 {
				t.Errorf("logged: %q", logged)
			}
		})
	}
}

// The mount can be ended while somebody waits in it.
func TestUnmountWhileWaiting(t *testing.T) {
	lib := fstest.New().List()
	lib.Pending("new")
	m := fstest.NewMount(t, lib, rbdfs.Options{LookupWait: time.Hour})
	done := make(chan error)
	go func() {
		_, err := os.Stat(m.Images("new/s.img"))
		done <- err
	}()
	<-lib.Waiting()
	err := m.Unmount()
	if !errors.Is(err, rbdfs.ErrBusy) {
		t.Errorf("unmount: %v, want busy", err)
	}
	lib.Set("new", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x"))})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// An image whose files are all gone says so, however it is asked.
func TestImageGoneWhileWaiting(t *testing.T) {
	lib := fstest.New().List()
	lib.Set("vm", fstest.Spec{Name: "s", Content: fstest.Data([]byte("x"))})
	m := fstest.NewMount(t, lib, rbdfs.Options{})
	if _, err := os.Stat(m.Images("vm")); err != nil {
		t.Fatal(err)
	}
	lib.Vanish("vm")
	if _, err := os.Stat(m.Images("vm/other.img")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it doesn't exist", err)
	}
	if errors.Is(chain.ErrNotFound, os.ErrNotExist) {
		t.Error("chain.ErrNotFound is os.ErrNotExist: the errno table would take it for a backup file's")
	}
}
