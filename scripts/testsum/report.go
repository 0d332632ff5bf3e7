package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// An event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build event
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string // on a package's fail event: what did not compile
}

// counts are the totals of a package, a pass or everything.
type counts struct {
	passed, failed, skipped int
}

func (c *counts) add(other counts) {
	c.passed += other.passed
	c.failed += other.failed
	c.skipped += other.skipped
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

// A testID names a test; with an empty Test the package itself.
type testID struct {
	Package, Test string
}

// A packageRun is what one package gave in one pass.
type packageRun struct {
	pass, name string
	counts
	elapsed time.Duration
}

// A report turns events into text. It is not safe for concurrent use.
type report struct {
	out   io.Writer
	total counts
	skips map[string]int // how often, by reason

	pass     string
	current  counts
	packages map[string]*packageRun
	output   map[testID][]string
	builds   map[string][]string // compiler output by import path
	finished []packageRun
}

func newReport(out io.Writer) *report {
	return &report{out: out, skips: make(map[string]int)}
}

// slowestShown bounds the list of slow packages, slowest first; a package faster
// than slowEnough is never in it.
const (
	slowestShown = 8
	slowEnough   = 5 * time.Second
)

func (r *report) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, format, args...)
}

func (r *report) startPass(name string) {
	r.pass = name
	r.current = counts{}
	r.packages = make(map[string]*packageRun)
	r.output = make(map[testID][]string)
	r.builds = make(map[string][]string)
	r.printf("== %s\n", name)
}

// endPass adds the pass to the totals. err is how its command ended: a command
// that failed while every test passed still counts as one failure.
func (r *report) endPass(err error) {
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		// The test binary went away without a last word, or go test was stopped.
		r.current.failed++
		r.printf("FAIL %s: ended without a result\n", name)
		r.dump(name)
	}
	if err != nil && r.current.failed == 0 {
		r.current.failed++
		r.printf("FAIL %s: %v\n", r.pass, err)
	}
	r.printf("-- %s: %s\n\n", r.pass, r.current)
	r.total.add(r.current)
}

// line takes one line of the command's output.
func (r *report) line(text string) {
	var e event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		r.printf("%s", text)
		return
	}
	switch {
	case e.Action == "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case e.Package == "":
	case e.Action == "output":
		id := testID{e.Package, e.Test}
		r.output[id] = append(r.output[id], e.Output)
	case e.Test != "":
		r.test(e)
	default:
		r.pkg(e)
	}
}

func (r *report) run(name string) *packageRun {
	p := r.packages[name]
	if p == nil {
		p = &packageRun{pass: r.pass, name: name}
		r.packages[name] = p
	}
	return p
}

// test takes an event of one test. The output of what passed is dropped.
func (r *report) test(e event) {
	p := r.run(e.Package)
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "pass":
		p.passed++
		delete(r.output, id)
	case "skip":
		p.skipped++
		r.skips[skipReason(r.output[id])]++
		delete(r.output, id)
	case "fail":
		p.failed++
	}
}

// pkg takes an event of a package as a whole.
func (r *report) pkg(e event) {
	switch e.Action {
	case "pass", "fail", "skip":
	default:
		return
	}
	p := r.run(e.Package)
	p.elapsed = time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	if e.Action == "fail" && p.failed == 0 {
		p.failed++ // it did not compile, or died outside any test
	}
	delete(r.packages, e.Package)
	r.current.add(p.counts)
	r.finished = append(r.finished, *p)
	switch {
	case e.Action == "fail":
		r.printf("FAIL %s (%s)\n", p.name, p.elapsed)
		for _, line := range r.builds[e.FailedBuild] {
			r.printf("     %s", line)
		}
		r.dump(e.Package)
	case p.counts != (counts{}):
		r.printf("ok   %-44s %7s  %s\n", p.name, p.elapsed, p.counts)
	}
	maps.DeleteFunc(r.output, func(id testID, _ []string) bool { return id.Package == e.Package })
}

// dump prints what is left of a package's output: that of the tests that failed
// or never ended, in the order of their names, then the package's own.
func (r *report) dump(name string) {
	ids := slices.SortedFunc(maps.Keys(r.output), func(a, b testID) int {
		if (a.Test == "") != (b.Test == "") {
			return cmp.Compare(b.Test, a.Test)
		}
		return cmp.Compare(a.Test, b.Test)
	})
	for _, id := range ids {
		if id.Package != name {
			continue
		}
		verdicts, rest := split(r.output[id])
		for _, line := range append(verdicts, rest...) {
			if !noise(line) {
				r.printf("     %s", line)
			}
		}
	}
}

// split takes the "--- FAIL: TestName" out of a test's output, to stand above
// what it said instead of below.
func split(lines []string) (verdicts, rest []string) {
	for _, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			verdicts = append(verdicts, line)
		} else {
			rest = append(rest, line)
		}
	}
	return verdicts, rest
}

// noise says whether a line only tells that a test began, paused or went on.
func noise(line string) bool {
	return strings.HasPrefix(line, "=== ")
}

// skipReason finds the message of a skipped test in its output.
func skipReason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		text := strings.TrimSpace(line)
		if text == "" || noise(line) || strings.HasPrefix(text, "--- ") {
			continue
		}
		// "file.go:12: reason"
		if position, reason, ok := strings.Cut(text, ": "); ok && strings.Contains(position, ".go:") {
			return reason
		}
		return text
	}
	return "no reason given"
}

// finish prints the slow packages, the reasons for skips and the totals.
func (r *report) finish() {
	slow := slices.DeleteFunc(slices.Clone(r.finished), func(p packageRun) bool { return p.elapsed < slowEnough })
	slices.SortStableFunc(slow, func(a, b packageRun) int { return cmp.Compare(b.elapsed, a.elapsed) })
	if len(slow) > 0 {
		r.printf("Slowest packages:\n")
		for _, p := range slow[:min(len(slow), slowestShown)] {
			r.printf("    %8s  %s (%s)\n", p.elapsed, p.name, p.pass)
		}
	}
	if len(r.skips) > 0 {
		r.printf("Skipped:\n")
		for _, reason := range slices.Sorted(maps.Keys(r.skips)) {
			r.printf("    %4d  %s\n", r.skips[reason], reason)
		}
	}
	r.printf("%s\n", r.total)
}
