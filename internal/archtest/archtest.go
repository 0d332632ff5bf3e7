// Package archtest reads the imports of this module's Go files and compares
// them with the direction that the packages must keep:
//
//	cmd -> {fs, restore, ceph} -> chain -> {index, rbddiff, repo}
//
// A package imports what is below it, never what is above or beside it. Each
// heavy dependency has one home: go-fuse in fs, go-ceph in ceph, Badger in index.
// rbddiff needs nothing but the standard library. internal/ holds small leaves
// that import no package but each other.
//
// It also holds two rules about calls: nothing sleeps, and only internal/testenv
// skips a test.
//
// Unlike a linter it looks at every file, whatever its build tags, and at the test
// files, which may reach down as the package itself does and use the helpers in
// tests/. It parses; it doesn't type-check, and so needs no module downloaded.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module whose packages the rules name.
const Module = "rbdbackupfs"

// layers says which packages of the module each one may import, besides internal
// ones and itself. Names are folders below the module's root; a folder stands for
// everything below it.
func layers() map[string][]string {
	bottom := []string{"index", "rbddiff", "repo"}
	middle := append([]string{"chain"}, bottom...)
	top := append([]string{"fs", "restore", "ceph"}, middle...)
	return map[string][]string{
		"cmd":      top,
		"fs":       middle,
		"restore":  middle,
		"ceph":     middle,
		"chain":    bottom,
		"index":    nil,
		"rbddiff":  nil,
		"repo":     nil,
		"internal": nil,
		"scripts":  nil,
		"tests":    append([]string{"cmd", "tests"}, top...),
	}
}

// homes says which folder alone may import a module of others.
func homes() map[string]string {
	return map[string]string{
		"github.com/hanwen/go-fuse":    "fs",
		"github.com/ceph/go-ceph":      "ceph",
		"github.com/dgraph-io/badger":  "index",
		"github.com/fsnotify/fsnotify": "repo",
		"github.com/spf13/cobra":       "cmd",
	}
}

// stdlibOnly are the folders whose own files import the standard library and
// nothing else.
func stdlibOnly() []string { return []string{"rbddiff", "scripts"} }

// A Violation is one import or call that breaks a rule.
type Violation struct {
	// Position is the file, relative to the module's root, and the line.
	Position string
	// Rule says what is wrong, in one line.
	Rule string
}

func (v Violation) String() string { return v.Position + ": " + v.Rule }

// Check parses every Go file below root, the folder of the module's go.mod, and
// returns what breaks a rule, in the order of the files. An error means that a
// file could not be read or parsed.
func Check(root fs.FS) ([]Violation, error) {
	var found []Violation
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipFolder(root, name):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		violations, err := checkFile(name, text)
		found = append(found, violations...)
		return err
	})
	return found, err
}

// skipFolder leaves out what the go command leaves out, and nested modules.
func skipFolder(root fs.FS, name string) bool {
	if name == "." {
		return false
	}
	base := path.Base(name)
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := fs.Stat(root, path.Join(name, "go.mod"))
	return err == nil
}

// checkFile checks one file, whose name is relative to the module's root.
func checkFile(name string, text []byte) ([]Violation, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []Violation
	report := func(pos token.Pos, rule string) {
		if rule != "" {
			p := files.Position(pos)
			found = append(found, Violation{fmt.Sprintf("%s:%d", p.Filename, p.Line), rule})
		}
	}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		report(spec.Pos(), checkImport(name, target))
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			report(call.Pos(), checkCall(name, call))
		}
		return true
	})
	return found, nil
}

// checkImport returns the rule that an import of target in the file breaks, or "".
func checkImport(file, target string) string {
	top := topFolder(file)
	isTest := strings.HasSuffix(file, "_test.go")
	own, local := cutModule(target)
	if !local {
		return checkForeign(top, target, isTest)
	}
	allowed, known := layers()[top]
	to, _, _ := strings.Cut(own, "/")
	switch {
	case !known:
		return fmt.Sprintf("folder %s has no place in the layers; give it one in internal/archtest", top)
	case to == top || slices.Contains(allowed, to):
		return ""
	case to == "internal" && (isTest || !slices.Contains(stdlibOnly(), top)):
		return ""
	case to == "tests" && isTest:
		return ""
	}
	return fmt.Sprintf("%s must not import %s", top, own)
}

// checkForeign is checkImport for a package that is not of this module.
func checkForeign(top, target string, isTest bool) string {
	for module, home := range homes() {
		if hasPathPrefix(target, module) && top != home {
			return fmt.Sprintf("only %s may import %s", home, module)
		}
	}
	first, _, _ := strings.Cut(target, "/")
	standard := !strings.Contains(first, ".") && target != "C"
	if slices.Contains(stdlibOnly(), top) && !standard && !isTest {
		return fmt.Sprintf("%s imports nothing but the standard library, not %s", top, target)
	}
	return ""
}

// checkCall returns the rule that a call in the file breaks, or "".
func checkCall(file string, call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	receiver, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}
	name := receiver.Name + "." + selector.Sel.Name
	switch selector.Sel.Name {
	case "Sleep":
		if receiver.Name == "time" {
			return name + ": wait for an event, or inject a clock"
		}
	case "Skip", "Skipf", "SkipNow":
		// By name, for want of types: what tests call their testing.T.
		if slices.Contains([]string{"t", "tb", "b", "f"}, receiver.Name) && path.Dir(file) != "internal/testenv" {
			return name + ": use testenv.Need, which a required capability turns into a failure"
		}
	}
	return ""
}

// topFolder is the first element of a file's folder; "." for the root.
func topFolder(file string) string {
	top, _, ok := strings.Cut(filepath.ToSlash(file), "/")
	if !ok {
		return "."
	}
	return top
}

// cutModule strips the module's path from an import path; false when it is not a
// package of this module.
func cutModule(target string) (string, bool) {
	if !hasPathPrefix(target, Module) {
		return "", false
	}
	return strings.TrimPrefix(strings.TrimPrefix(target, Module), "/"), true
}

// hasPathPrefix says whether name is prefix or lies below it.
func hasPathPrefix(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}
