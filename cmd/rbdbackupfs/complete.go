package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"rbdbackupfs/internal/daemon"
)

// completeImages offers the images of a repository that is mounted: only then
// it is cheap.
func (a *app) completeImages(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	path, mountpoint, err := findMount(args[0])
	if err != nil || mountpoint != path {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	status, err := mountStatus(ctx, path)
	if err != nil || status.Daemon.Socket == "" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	src := &remoteSource{client: daemon.NewClient(status.Daemon.Socket)}
	defer src.client.Close()
	var names []string
	// Half a list is better than none.
	_ = src.Names(ctx, func(n nameReport) error {
		names = append(names, n.Name)
		return nil
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
