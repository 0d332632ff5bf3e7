// Package restore holds the black-box tests of import/ and of the restore command:
// the built program, real writers, a real cluster. The real rbd is the oracle.
package restore
