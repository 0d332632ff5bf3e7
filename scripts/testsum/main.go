// Command testsum runs `go test -json` one or more times and reports on all of
// it as a person wants to read it: one line per package, the whole output of
// what failed, why tests were skipped, and the totals in the last line.
//
//	testsum 'race: go test -json -race ./...' 'static: CGO_ENABLED=0 go test -json ./...'
//
// Each argument is a pass: a name, a colon and a shell command that prints the
// events. The passes run one after the other, and all of them run whatever the
// earlier ones gave. The exit status is 0 only when every command's is 0 and
// nothing failed.
//
// The last line has exactly this form, so that scripts can read it:
//
//	12 passed, 0 failed, 1 skipped
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs every pass in args and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		_, _ = fmt.Fprintln(stderr, "usage: testsum 'NAME: COMMAND'...")
		return 2
	}
	report := newReport(stdout)
	for _, arg := range args {
		name, command, ok := strings.Cut(arg, ":")
		if !ok {
			_, _ = fmt.Fprintf(stderr, "testsum: %q is not NAME: COMMAND\n", arg)
			return 2
		}
		report.startPass(strings.TrimSpace(name))
		report.endPass(runPass(ctx, command, report, stderr))
	}
	report.finish()
	if report.total.failed > 0 {
		return 1
	}
	return 0
}

// runPass feeds the events that command prints to the report and returns the
// error the command ended with.
func runPass(ctx context.Context, command string, report *report, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	// An interrupt must reach the tests, which may have file systems mounted.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			report.line(line)
		}
		if err != nil {
			break
		}
	}
	return cmd.Wait()
}
