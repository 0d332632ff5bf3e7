#!/bin/sh
# check-static.sh FILE: fail when FILE needs a shared library or an interpreter.
set -eu

if command -v readelf >/dev/null 2>&1; then
    if readelf -lW "$1" | grep -Eq 'INTERP|DYNAMIC'; then
        echo "$1 is not static:" >&2
        readelf -dW "$1" >&2
        exit 1
    fi
elif ldd "$1" >/dev/null 2>&1; then
    # ldd fails on a static file: there is nothing to list.
    echo "$1 is not static:" >&2
    ldd "$1" >&2
    exit 1
fi
