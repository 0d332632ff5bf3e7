//go:build cgo && !noceph

package ceph

/*
#cgo LDFLAGS: -lrbd -lrados
#include <rbd/librbd.h>

// go-ceph has no call for the limit and doesn't give out its handle, so this opens
// one of its own, to look only.
static int snap_limit(void *io, const char *name, uint64_t *limit) {
	rbd_image_t image;
	int ret = rbd_open_read_only((rados_ioctx_t)io, name, &image, NULL);
	if (ret < 0) {
		return ret;
	}
	ret = rbd_snap_get_limit(image, limit);
	rbd_close(image);
	return ret;
}
*/
import "C"

import (
	"math"
	"syscall"
	"unsafe"

	"github.com/ceph/go-ceph/rados"
)

// snapLimit is how many snapshots an image may have; below 0 is no limit.
func snapLimit(io *rados.IOContext, name string) (int, error) {
	var limit C.uint64_t
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	ret := C.snap_limit(io.Pointer(), (*C.char)(unsafe.Pointer(text)), &limit)
	if ret < 0 {
		return 0, syscall.Errno(-ret)
	}
	if uint64(limit) > math.MaxInt32 {
		return -1, nil
	}
	return int(limit), nil
}
