package chain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"rbdbackupfs/repo"
)

// TestPlan runs the plans in testdata/plan. A file there has lines like
//
//	plan
//	file full.diff kind=diff mtime=1 link=SNAPSHOT
//	-> s1 size=64k bytes=4k
//	file inc.diff
//	s1 -> s2
//	s2 -> HEAD
//	file cut.diff fault=incomplete
//	differ a.diff b.diff
//
// and behind ---- what is served, over which steps. `plan guess` is what the layout
// auto does: names are looked for in paths, and names alone aren't trusted. Run it
// with -rewrite to accept what the planner does now. Each plan is made in many
// orders.
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata/plan", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "plan" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			s, err := parseScene(d.Input)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			s.guess = d.HasArg("guess")
			want := s.String()
			rng := rand.New(rand.NewPCG(1, 2))
			for range 30 {
				rng.Shuffle(len(s.files), func(i, j int) { s.files[i], s.files[j] = s.files[j], s.files[i] })
				if got := s.String(); got != want {
					d.Fatalf(t, "another order of the files gives another plan:\n%s\nbefore:\n%s", got, want)
				}
			}
			return want
		})
	})
}

// A scene is what a plan is made from.
type scene struct {
	files    []*planFile
	verdicts map[[2]string]verdict // by the paths of two files, sorted
	guess    bool
}

// plan makes the scene's plan.
func (s *scene) plan() *plan {
	return makePlan("vm1", s.files, planRules{verdict: s.same, infer: s.guess, trust: !s.guess})
}

func (s *scene) same(c comparison) verdict {
	return s.verdicts[pathPair(c.a.step.file.path, c.b.step.file.path)]
}

func pathPair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

func parseScene(input string) (*scene, error) {
	s := &scene{verdicts: map[[2]string]verdict{}}
	for line := range strings.Lines(input) {
		words, err := splitWords(line)
		if err == nil && len(words) > 0 {
			err = s.addLine(words)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return s, nil
}

var errSyntax = errors.New("not understood")

func (s *scene) addLine(words []string) error {
	switch {
	case words[0] == "file":
		return s.addFile(words[1:])
	case words[0] == "same" && len(words) == 3:
		s.verdicts[pathPair(words[1], words[2])] = same
	case words[0] == "differ" && len(words) == 3:
		s.verdicts[pathPair(words[1], words[2])] = different
	case slices.Contains(words, "->") && len(s.files) > 0:
		return s.addStep(words)
	default:
		return errSyntax
	}
	return nil
}

func (s *scene) addFile(words []string) error {
	f := &planFile{path: words[0], kind: kindDiff, pin: repo.Pin{Inode: uint64(len(s.files) + 1)}, info: &fileInfo{}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "kind":
			f.kind = fileKind(value)
		case "holds":
			f.holds = value
		case "link":
			f.link = value
		case "mtime":
			sec, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return err
			}
			f.modTime = time.Unix(sec, 0)
		case "fault":
			f.fault = &fault{kind: Kind(value), reason: "is " + value, cure: "Make it again"}
		case "maybe-raw":
			f.fault = &fault{kind: KindUnsupported, reason: "has no banner", maybeRaw: true}
		default:
			return errSyntax
		}
	}
	s.files = append(s.files, f)
	return nil
}

// addStep adds a line "FROM -> TO size=N bytes=N" to the last file; a raw
// file's is "-> HEAD".
func (s *scene) addStep(words []string) error {
	f := s.files[len(s.files)-1]
	info := stepInfo{Bytes: 1024}
	if words[0] != "->" {
		info.From, info.HasFrom, words = words[0], true, words[1:]
	}
	if len(words) < 2 {
		return errSyntax
	}
	if words[1] != "HEAD" {
		info.To, info.HasTo = words[1], true
	}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		number, kilo := strings.CutSuffix(value, "k")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return err
		}
		if kilo {
			n <<= 10
		}
		switch key {
		case "size":
			info.Size, info.HasSize = n, true
		case "bytes":
			info.Bytes = n
		default:
			return errSyntax
		}
	}
	f.steps = append(f.steps, info)
	return nil
}

// splitWords splits at spaces; a word in Go's quotes may hold anything.
func splitWords(line string) (words []string, err error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var word string
		for line != "" && line[0] != ' ' {
			if line[0] != '"' {
				word, line = word+line[:1], line[1:]
				continue
			}
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, err
			}
			plain, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, err
			}
			word, line = word+plain, line[len(quoted):]
		}
		words = append(words, word)
	}
	return words, nil
}

// String plans the scene and shows the plan.
func (s *scene) String() string {
	p := s.plan()
	var b strings.Builder
	for _, n := range p.nodes {
		fmt.Fprintf(&b, "%s: %s", quoted(n.label()), pathOf(n))
		for _, alt := range n.alts {
			b.WriteString(", or " + stepName(alt))
		}
		if n.step.known == KnownInferred {
			b.WriteString(" (inferred)")
		}
		if n.linked {
			b.WriteString(" (link)")
		}
		if n.trustOf() == TrustSuspicious {
			b.WriteString(" (suspicious)")
		}
		b.WriteByte('\n')
	}
	for _, f := range slices.SortedFunc(slices.Values(s.files), func(a, b *planFile) int { return strings.Compare(a.path, b.path) }) {
		if p.states[f] != "ok" {
			fmt.Fprintf(&b, "file %s is %s\n", quoted(f.path), p.states[f])
		}
	}
	for _, c := range p.compare {
		fmt.Fprintf(&b, "compare %s with %s\n", pathOf(c.a), pathOf(c.b))
	}
	for _, problem := range p.problems {
		mark := "-"
		if problem.Serving {
			mark = "(served)"
		}
		fmt.Fprintf(&b, "%s %s %s\n", problem.Kind, mark, problem)
	}
	return b.String()
}

// pathOf names the steps to a node.
func pathOf(n *planNode) string {
	name := stepName(n.step)
	if n.parent != nil {
		return pathOf(n.parent) + " > " + name
	}
	return name
}

// stepName is the file's path, and which part of it where it has several.
func stepName(s *step) string {
	if len(s.file.steps) == 1 {
		return quoted(s.file.path)
	}
	return fmt.Sprintf("%s#%d", quoted(s.file.path), s.part)
}
