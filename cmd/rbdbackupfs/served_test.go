package main

import (
	"log/slog"
	"testing"

	"rbdbackupfs/chain"
	"rbdbackupfs/internal/daemon"
)

// servedConformance gives the conformance repository from its library, and the same
// through a socket.
func servedConformance(t *testing.T) (*localSource, *remoteSource) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	repo, err := realBackend().OpenRepo(conformance+"/repo", repoOptions{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	index := t.TempDir()
	session, err := openSession(t.Context(), repo, libraryOptions{Index: index}, daemon.Owner{Mountpoint: "/mnt"}, log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := session.lock.Listen()
	if err != nil {
		t.Fatal(err)
	}
	local := &localSource{lib: session.lib, journal: journalOf(index), daemon: daemonReport{Index: index}}
	server := daemon.NewServer(local.routes(), log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	remote := &remoteSource{client: daemon.NewClient(daemon.SocketPath(index)), index: index}
	t.Cleanup(func() {
		remote.client.Close()
		for _, err := range []error{server.Close(), <-served, session.Close(), repo.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return local, remote
}

func changesOf(t *testing.T, src source, q changesQuery) []chain.Change {
	t.Helper()
	var list []chain.Change
	err := src.Changes(t.Context(), q, func(c chain.Change) error {
		list = append(list, c)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return list
}
