package fs

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// setReadAhead sets how far the kernel reads ahead on the mount at path.
func setReadAhead(path string, kib int) error {
	file, err := readAheadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strconv.Itoa(kib)), 0)
}

// readAheadFile is where the kernel has the setting for the mount at path.
func readAheadFile(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)), nil
}
