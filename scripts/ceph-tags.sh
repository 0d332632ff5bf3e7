#!/bin/sh
# Print the go-ceph build tag for the librbd headers on this machine.
#
# go-ceph compiles against one Ceph release at a time. It assumes the newest and
# leaves out, under the tag of an older release, what that release lacks
# (rbd_encryption_load2 and rados_striper_stat2 came after quincy). The tag is
# derived from the headers themselves, not from a package's version, so that it
# also fits headers that were built from source.
#
# Exit status 1, and nothing printed, when there are no headers or no compiler.
set -eu

headers=$(printf '#include <rados/librados.h>\n#include <rbd/librbd.h>\n' |
    "${CC:-cc}" -E -dD -x c - 2>/dev/null) || exit 1

has() { printf '%s\n' "$headers" | grep -q "$1"; }

minor=$(printf '%s\n' "$headers" | awk '$2 == "LIBRBD_VER_MINOR" { print $3; exit }')

if ! has 'rbd_encryption_format *('; then
    echo octopus
elif ! has 'rbd_encryption_load2 *('; then
    # librbd counts its releases since pacific with Ceph's major version.
    if [ "${minor:-0}" -ge 17 ]; then echo quincy; else echo pacific; fi
else
    case ${minor:-} in
    18) echo reef ;;
    19) echo squid ;;
    *) echo tentacle ;;
    esac
fi
