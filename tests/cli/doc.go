// Package cli holds the black-box tests of the command line: txtar scripts, run
// with the real program. Each is headed by the behaviour that it pins.
//
//	testdata/script   what needs nothing but the program
//	testdata/fuse     what mounts
//
// `go test ./tests/cli -rewrite` writes what the program prints into the golden
// files of the scripts. The commands that scripts have besides the usual ones
// are in commands_test.go.
package cli
