package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// A Route answers one request: with a value that goes out as JSON, or with a
// Stream. An error made by Fail chooses the status, any other is a 500.
type Route func(ctx context.Context, query url.Values) (any, error)

// A Stream sends values one by one, one JSON text a line, so that a long list
// needs no memory.
type Stream func(emit func(any) error) error

// A StatusError is an error with an HTTP status.
type StatusError struct {
	Status int // such as http.StatusNotFound
	Err    error
}

// Error is the message of Err.
func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *StatusError) Unwrap() error { return e.Err }

// Fail gives err an HTTP status for the other side.
func Fail(status int, err error) error { return &StatusError{Status: status, Err: err} }

// reply is every JSON text on the wire: a value or an error.
type reply struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

// A Server answers requests on the socket.
type Server struct {
	http *http.Server
	log  *slog.Logger
}

// NewServer makes a server for routes, keyed by path ("/v1/status"), GET only.
func NewServer(routes map[string]Route, log *slog.Logger) *Server {
	mux := http.NewServeMux()
	s := &Server{log: log}
	for path, route := range routes {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, route) })
	}
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers until Close; it returns nil after that.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops the server, its listener and its connections.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) answer(w http.ResponseWriter, r *http.Request, route Route) {
	value, err := route(r.Context(), r.URL.Query())
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	if err != nil {
		status := http.StatusInternalServerError
		if fail := (*StatusError)(nil); errors.As(err, &fail) {
			status = fail.Status
		}
		w.WriteHeader(status)
		s.sent(r, encoder.Encode(reply{Error: err.Error()}))
		return
	}
	stream, ok := value.(Stream)
	if !ok {
		s.sent(r, encoder.Encode(reply{Value: value}))
		return
	}
	err = stream(func(v any) error { return encoder.Encode(reply{Value: v}) })
	if err != nil {
		s.sent(r, encoder.Encode(reply{Error: err.Error()}))
		return
	}
	// The end of a stream is told: a daemon that was killed looks different.
	s.sent(r, encoder.Encode(reply{}))
}

func (s *Server) sent(r *http.Request, err error) {
	if err != nil {
		s.log.Debug("answer not sent", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
}
