package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve runs a server on the socket of a new index folder until the test ends,
// and returns its client and the folder.
func serve(t *testing.T, dir string, routes map[string]Route) *Client {
	t.Helper()
	lock := acquire(t, dir, mountOwner())
	listener, err := lock.Listen()
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(routes, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	client := NewClient(SocketPath(dir))
	t.Cleanup(func() {
		client.Close()
		if err := errors.Join(server.Close(), <-done); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(SocketPath(dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
		release(t, lock)
	})
	return client
}

func TestRoundTrip(t *testing.T) {
	type answer struct{ Name, Query string }
	client := serve(t, t.TempDir(), map[string]Route{
		"/v1/status": func(_ context.Context, q url.Values) (any, error) {
			return answer{"a<b>\xff", q.Get("name")}, nil
		},
	})
	var got answer
	if err := client.Get(t.Context(), "/v1/status", url.Values{"name": {"x\xff&y"}}, &got); err != nil {
		t.Fatal(err)
	}
	if want := (answer{"a<b>\ufffd", "x\xff&y"}); got.Name != want.Name || got.Query != "x\ufffd&y" {
		t.Errorf("got %+q, want %+q", got, want)
	}
}

func TestStream(t *testing.T) {
	broken := errors.New("the disk is gone")
	numbers := func(n int, err error) Route {
		return func(context.Context, url.Values) (any, error) {
			return Stream(func(emit func(any) error) error {
				for i := range n {
					if err := emit(i); err != nil {
						return err
					}
				}
				return err
			}), nil
		}
	}
	client := serve(t, t.TempDir(), map[string]Route{"/v1/ok": numbers(1000, nil), "/v1/broken": numbers(3, broken)})
	count := 0
	visit := func(text json.RawMessage) error {
		var n int
		if err := json.Unmarshal(text, &n); err != nil || n != count {
			t.Errorf("value %d is %s (%v)", count, text, err)
		}
		count++
		return nil
	}
	if err := client.Each(t.Context(), "/v1/ok", nil, visit); err != nil || count != 1000 {
		t.Errorf("%d values, %v", count, err)
	}
	count = 0
	if err := client.Each(t.Context(), "/v1/broken", nil, visit); err == nil || err.Error() != broken.Error() || count != 3 {
		t.Errorf("%d values, %v; want 3 and %v", count, err, broken)
	}
}

func TestRefusals(t *testing.T) {
	client := serve(t, t.TempDir(), map[string]Route{
		"/v1/missing": func(context.Context, url.Values) (any, error) {
			return nil, Fail(http.StatusNotFound, errors.New("no such image"))
		},
	})
	err := client.Get(t.Context(), "/v1/missing", nil, new(int))
	var status *StatusError
	if !errors.As(err, &status) || status.Status != http.StatusNotFound || err.Error() != "no such image" {
		t.Errorf("got %v", err)
	}
	err = client.Get(t.Context(), "/v9/new", nil, new(int))
	if err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("a route of another version: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	dir := t.TempDir()
	client := NewClient(SocketPath(dir))
	if err := client.Get(t.Context(), "/v1/status", nil, new(int)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a socket: %v", err)
	}
	// What a killed daemon leaves.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketPath(dir)})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client.Get(t.Context(), "/v1/status", nil, new(int)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a dead socket: %v", err)
	}
	for _, patience := range []time.Duration{0, time.Millisecond} { // 0 ends while it connects
		if err := client.Await(t.Context(), patience); !errors.Is(err, ErrNotRunning) {
			t.Errorf("awaited for %v: %v", patience, err)
		}
	}
	serve(t, dir, nil)
	if err := client.Await(t.Context(), time.Minute); err != nil {
		t.Errorf("in place of the dead one: %v", err)
	}
}

func TestLongPathAndMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	client := serve(t, dir, map[string]Route{
		"/v1/status": func(context.Context, url.Values) (any, error) { return 7, nil },
	})
	var got int
	if err := client.Get(t.Context(), "/v1/status", nil, &got); err != nil || got != 7 {
		t.Errorf("got %d, %v", got, err)
	}
	info, err := os.Lstat(SocketPath(dir))
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	missing := NewClient(SocketPath(filepath.Join(dir, "missing")))
	if err := missing.Get(t.Context(), "/v1/status", nil, &got); !errors.Is(err, ErrNotRunning) {
		t.Errorf("in a folder that isn't there: %v", err)
	}
}

func TestDaemonThatDiesInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"value\": 1}\n\r\n"))
		conn.Close()
	}()
	values := 0
	err = NewClient(SocketPath(dir)).Each(t.Context(), "/v1/images", nil, func(json.RawMessage) error { values++; return nil })
	if !errors.Is(err, ErrNotRunning) || values != 1 {
		t.Errorf("%d values and %v, want 1 and that it ended", values, err)
	}
}
