package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sample is a module with one package per way to end.
var sample = map[string]string{
	"go.mod":            "module sample\n\ngo 1.26.0\n",
	"good/good_test.go": "package good\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Run(\"sub\", func(t *testing.T) {}); t.Log(\"chatter\") }\n",
	"bad/bad_test.go":   "package bad\nimport \"testing\"\nfunc TestB(t *testing.T) { t.Error(\"want 1, got 2\") }\nfunc TestC(t *testing.T) {}\n",
	"built/b_test.go":   "package built\nimport \"testing\"\nfunc TestD(t *testing.T) { undefined() }\n",
	"died/d_test.go":    "package died\nimport (\"os\"; \"testing\")\nfunc TestE(t *testing.T) { os.Exit(3) }\n",
	"panics/p_test.go":  "package panics\nimport \"testing\"\nfunc TestF(t *testing.T) { panic(\"oh no\") }\n",
	"skips/s_test.go":   "package skips\nimport (\"testing\"; \"sample/skipper\")\nfunc TestG(t *testing.T) { skipper.Now(t) }\nfunc TestH(t *testing.T) { skipper.Now(t) }\n",
	"skipper/s.go":      "package skipper\nimport \"testing\"\nfunc Now(t *testing.T) { t.Helper(); t.Skip(\"needs a moon: none up\") }\n",
}

// runSample runs the passes, with DIR replaced by the sample module's folder.
func runSample(t *testing.T, passes ...string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range sample {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range passes {
		passes[i] = strings.ReplaceAll(passes[i], "DIR", dir)
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), passes, &out, &errs)
	return code, out.String()
}

func TestRun(t *testing.T) {
	tests := []struct {
		name    string
		passes  []string
		code    int
		want    []string // in the output, in this order
		wantNot string
		totals  string
	}{
		{
			name:   "all pass",
			passes: []string{"one: cd DIR && go test -json ./good"},
			want:   []string{"== one", "ok   sample/good", "-- one: 2 passed"}, wantNot: "chatter",
			totals: "2 passed, 0 failed, 0 skipped",
		},
		{
			name:   "a failure shows its output only",
			passes: []string{"one: cd DIR && go test -json ./bad"},
			code:   1,
			want:   []string{"FAIL sample/bad", "--- FAIL: TestB", "want 1, got 2"}, wantNot: "TestC",
			totals: "1 passed, 1 failed, 0 skipped",
		},
		{
			name:   "what does not compile is a failure",
			passes: []string{"one: cd DIR && go test -json ./built"},
			code:   1,
			want:   []string{"FAIL sample/built", "undefined: undefined"},
			totals: "0 passed, 1 failed, 0 skipped",
		},
		{
			name:   "a test binary that exits is a failure",
			passes: []string{"one: cd DIR && go test -json ./died"},
			code:   1,
			want:   []string{"FAIL sample/died"},
			totals: "0 passed, 1 failed, 0 skipped",
		},
		{
			name:   "a panic is a failure and shows",
			passes: []string{"one: cd DIR && go test -json ./panics"},
			code:   1,
			want:   []string{"FAIL sample/panics", "panic: oh no"},
			totals: "0 passed, 1 failed, 0 skipped",
		},
		{
			name:   "skips are counted by reason",
			passes: []string{"one: cd DIR && go test -json ./skips"},
			want:   []string{"Skipped:", "2  needs a moon: none up"},
			totals: "0 passed, 0 failed, 2 skipped",
		},
		{
			name:   "passes add up, and a failed one does not stop the next",
			passes: []string{"one: cd DIR && go test -json ./bad", "two: cd DIR && go test -json ./good"},
			code:   1,
			want:   []string{"== one", "== two", "ok   sample/good"},
			totals: "3 passed, 1 failed, 0 skipped",
		},
		{
			name:   "a command that gives no event and fails is a failure",
			passes: []string{"one: echo no such thing; exit 7"},
			code:   1,
			want:   []string{"no such thing", "FAIL one: exit status 7"},
			totals: "0 passed, 1 failed, 0 skipped",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out := runSample(t, tt.passes...)
			if code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			rest := out
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("no %q where it belongs", want)
				}
				rest = after
			}
			if tt.wantNot != "" && strings.Contains(out, tt.wantNot) {
				t.Errorf("%q shows", tt.wantNot)
			}
			if !strings.HasSuffix(out, "\n"+tt.totals+"\n") {
				t.Errorf("last line is not %q", tt.totals)
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

// TestOneTotalsLine: scripts look for the totals line, so nothing else may look
// like it.
func TestOneTotalsLine(t *testing.T) {
	_, out := runSample(t, "one: cd DIR && go test -json ./good", "two: cd DIR && go test -json ./bad ./skips")
	totals := regexp.MustCompile(`(?m)^(\w+: )?\d+ passed, \d+ failed(, \d+ skipped)?$`)
	if got := totals.FindAllString(out, -1); len(got) != 1 {
		t.Errorf("totals lines %q, want one", got)
	}
}

func TestUsage(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), nil, &out, &errs); code != 2 {
		t.Errorf("exit status %d without a pass, want 2", code)
	}
	if code := run(context.Background(), []string{"no colon"}, &out, &errs); code != 2 {
		t.Errorf("exit status %d for a pass without a name, want 2", code)
	}
}
