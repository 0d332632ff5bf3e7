package testenv

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// recorder stands in for a test and records how Need ends it.
type recorder struct {
	testing.TB
	verdict string
	message string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) { r.end("fail", fmt.Sprintf(format, args...)) }

func (r *recorder) Skipf(format string, args ...any) { r.end("skip", fmt.Sprintf(format, args...)) }

// end leaves the goroutine as the real ones do, so a Need that goes on after a
// verdict shows.
func (r *recorder) end(verdict, message string) {
	r.verdict, r.message = verdict, message
	runtime.Goexit()
}

// need runs Need in a goroutine of its own and returns its verdict.
func need(t *testing.T, caps ...string) *recorder {
	r := &recorder{TB: t, verdict: "run"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Need(r, caps...)
	}()
	<-done
	return r
}

func TestNeed(t *testing.T) {
	const absent = "program:no-such-program-here"
	tests := []struct {
		name, require string
		caps          []string
		verdict       string
		message       string
	}{
		{"nothing needed", "", nil, "run", ""},
		{"present", "", []string{"program:sh"}, "run", ""},
		{"present and required", "program:sh", []string{"program:sh"}, "run", ""},
		{"absent", "", []string{absent}, "skip", "not installed: no-such-program-here"},
		{"absent after present", "", []string{"program:sh", absent}, "skip", "not installed"},
		{"absent, something else required", "program:sh", []string{absent}, "skip", "not installed"},
		{"absent and required", "program:sh, " + absent, []string{absent}, "fail", "required by RBDBACKUPFS_REQUIRE"},
		{"absent and all required", "all", []string{absent}, "fail", "required by RBDBACKUPFS_REQUIRE"},
		{"unknown need", "", []string{"fues"}, "fail", `unknown capability "fues"`},
		{"unknown requirement", "fues", nil, "fail", `unknown capability "fues"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(RequireVar, tt.require)
			got := need(t, tt.caps...)
			if got.verdict != tt.verdict || !strings.Contains(got.message, tt.message) {
				t.Errorf("Need(%q) with %s=%q: %s %q, want %s with %q",
					tt.caps, RequireVar, tt.require, got.verdict, got.message, tt.verdict, tt.message)
			}
		})
	}
}

// TestProbesLeaveNothing runs the probes that touch the kernel; whatever they
// find, no mount and no temporary file may stay behind.
func TestProbesLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, name := range []string{"fuse", "loop"} {
		p, err := lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %v", name, p())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil && strings.Contains(string(mounts), dir) {
		t.Errorf("still mounted below %s:\n%s", dir, mounts)
	}
}

func TestCapabilitiesAreKnown(t *testing.T) {
	for _, name := range Capabilities() {
		if _, err := lookup(name); err != nil {
			t.Error(err)
		}
	}
}
