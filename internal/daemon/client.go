package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const awaitInterval = 20 * time.Millisecond

// A Client asks the daemon that listens on one socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client of the socket at path; it doesn't connect yet.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
	}}}
}

// Get asks for route and decodes the one value that comes back into out.
// Nobody there gives ErrNotRunning, a refusal a *StatusError.
func (c *Client) Get(ctx context.Context, route string, query url.Values, out any) error {
	return c.exchange(ctx, route, query, func(decoder *json.Decoder) error {
		value, err := next(decoder)
		if err != nil {
			return err
		}
		return json.Unmarshal(value, out)
	})
}

// Each asks for route and calls visit with each value of the stream.
func (c *Client) Each(ctx context.Context, route string, query url.Values, visit func(json.RawMessage) error) error {
	return c.exchange(ctx, route, query, func(decoder *json.Decoder) error {
		for {
			value, err := next(decoder)
			if err != nil || value == nil {
				return err
			}
			if err := visit(value); err != nil {
				return err
			}
		}
	})
}

// Await returns once somebody listens: a daemon takes its lock a moment before
// that. After patience it gives ErrNotRunning.
func (c *Client) Await(ctx context.Context, patience time.Duration) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	retry := time.NewTicker(awaitInterval)
	defer retry.Stop()
	for {
		conn, err := dial(ctx, c.path)
		if err == nil {
			return conn.Close()
		}
		switch {
		case errors.Is(err, ErrNotRunning):
		case ctx.Err() != nil && caller.Err() == nil: // while it connected
			return fmt.Errorf("%w at %s", ErrNotRunning, c.path)
		default:
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) exchange(ctx context.Context, route string, query url.Values, read func(*json.Decoder) error) error {
	target := url.URL{Scheme: "http", Host: "daemon", Path: route, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.transport(err)
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	if response.StatusCode == http.StatusOK {
		return read(decoder)
	}
	if _, err := next(decoder); err != nil && !isSyntax(err) {
		return Fail(response.StatusCode, err)
	}
	return Fail(response.StatusCode, fmt.Errorf("the rbdbackupfs at %s doesn't know %s: it is of another version; umount it and mount again", c.path, route))
}

// transport drops net/http's "Get http://daemon/...:" from an error.
func (c *Client) transport(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) && !errors.Is(err, context.Canceled) {
		err = wrapped.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w at %s: it ended while it was asked", ErrNotRunning, c.path)
	}
	return err
}

// next reads one reply; a nil value is the end of a stream.
func next(decoder *json.Decoder) (json.RawMessage, error) {
	var reply struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	}
	switch err := decoder.Decode(&reply); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it ended in the middle of an answer", ErrNotRunning)
	case err != nil:
		return nil, err
	case reply.Error != "":
		return nil, errors.New(reply.Error)
	}
	return reply.Value, nil
}

func isSyntax(err error) bool {
	syntax, kind := (*json.SyntaxError)(nil), (*json.UnmarshalTypeError)(nil)
	return errors.As(err, &syntax) || errors.As(err, &kind)
}
