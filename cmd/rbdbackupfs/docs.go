package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) docsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "docs",
		Short:  "Generate documentation",
		Hidden: true,
	}
	c.AddCommand(&cobra.Command{
		Use:     "man DIR",
		Short:   "Write a man page of every command into DIR",
		Example: "  rbdbackupfs docs man docs/man",
		Args:    between(1, 1),
		RunE:    func(c *cobra.Command, args []string) error { return writeManPages(c.Root(), args[0]) },
	})
	return c
}

func writeManPages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	// Fixed, so that the same text gives the same pages on any day.
	date := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	return doc.GenManTree(root, &doc.GenManHeader{
		Title: "RBDBACKUPFS", Section: "1", Source: "rbdbackupfs", Manual: "rbdbackupfs", Date: &date,
	}, dir)
}
