//go:build !linux

package testenv

import "errors"

func probeFUSE() error { return errors.New("only Linux has the FUSE that this project uses") }

func probeLoop() error { return errors.New("only Linux has loop devices") }
