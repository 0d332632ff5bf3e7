package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and commit are set by the linker (-X main.version=v1.2.3); without
// that they come from what the go command recorded.
var version, commit string

// versionReport is the JSON of "version".
type versionReport struct {
	Version  string   `json:"version"`
	Commit   string   `json:"commit,omitempty"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	Ceph     string   `json:"ceph,omitempty"` // client library's version
	Features []string `json:"features"`
}

func newVersionReport(ceph string) versionReport {
	report := versionReport{
		Version: version, Commit: commit, Ceph: ceph,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Features: []string{"mount", "noceph"},
	}
	if ceph != "" {
		report.Features = []string{"mount", "ceph"}
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return report
	}
	if report.Version == "" {
		report.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && report.Commit == "" {
			report.Commit = setting.Value
		}
	}
	return report
}

type versionOptions struct{ json bool }

func (a *app) versionCommand() *cobra.Command {
	var o versionOptions
	c := &cobra.Command{
		Use:   "version",
		Short: "Show the version and what is built in",
		Long:  "version shows the version, the commit it was built from, and the version of the\nCeph client library where one is built in.",
		Example: `  rbdbackupfs version
  rbdbackupfs version --json`,
		Args: between(0, 0),
		RunE: func(*cobra.Command, []string) error { return a.version(o) },
	}
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func (a *app) version(o versionOptions) error {
	report := newVersionReport(a.backend.CephVersion())
	if o.json {
		return writeJSON(a.stdout, report)
	}
	fmt.Fprintf(a.stdout, "rbdbackupfs %s\n", report.Version)
	if report.Commit != "" {
		fmt.Fprintf(a.stdout, "commit  %s\n", report.Commit)
	}
	fmt.Fprintf(a.stdout, "go      %s %s\n", report.Go, report.Platform)
	if report.Ceph != "" {
		fmt.Fprintf(a.stdout, "ceph    %s\n", report.Ceph)
	} else {
		fmt.Fprintln(a.stdout, "ceph    not built in")
	}
	return nil
}
