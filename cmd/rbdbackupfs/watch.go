package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

const watchInterval = time.Second

// errOver ends a watch without an error.
var errOver = errors.New("there is nothing more to watch")

// watch shows something every second, until ctx ends. It redraws a terminal;
// anything else gets what has changed. show writes, and returns what a change is
// told by: what it writes may have the time in it.
func (a *app) watch(ctx context.Context, show func(w io.Writer) (state any, err error)) error {
	const clearAll, home, clearBelow = "\x1b[2J", "\x1b[H", "\x1b[J"
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	live := terminal(a.stdout)
	if live {
		fmt.Fprint(a.stdout, clearAll)
	}
	for last := any(nil); ; {
		var text strings.Builder
		state, err := show(&text)
		if errors.Is(err, errOver) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case live:
			fmt.Fprint(a.stdout, home, text.String(), clearBelow)
		case last == nil || !reflect.DeepEqual(state, last):
			fmt.Fprintln(a.stdout, text.String())
		}
		last = state
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// ended tells whether nothing of ours is mounted at a mountpoint any more.
func ended(mountpoint string) bool {
	_, now, err := findMount(mountpoint)
	return err == nil && now != mountpoint
}
