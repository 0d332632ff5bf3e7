// Package ceph talks to a Ceph cluster through librados and librbd. It is the
// only package that imports go-ceph:
//
//	cmd ──> ceph ──> go-ceph ──> librbd, librados ──> the cluster
//
// Without cgo, or under the build tag noceph, the same functions are there and
// say ErrNotBuilt: the static binary for rescue hosts has everything but Ceph.
//
// A Conn is a live connection: Connect returns one only after a monitor has
// accepted the user and told the cluster's id. librados has no cancellation, so
// every call that may wait for the cluster is given its bound beforehand and left
// behind, to end by itself, when its context ends sooner.
//
// A Target restores images. What undoes a restore that was cut off is in the
// cluster: a new image's temporary name, or an old one's guard (see guard).
//
// This package knows pools, images and snapshots of a cluster. It knows nothing
// about backup files; what goes into an image comes from above, through
// interfaces.
package ceph
