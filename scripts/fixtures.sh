#!/bin/bash
# Makes the committed fixtures of tests/testdata anew, with the real rbd against
# a throw-away cluster. They come out the same with the same Ceph release.
#
#   scripts/fixtures.sh [OUT]      OUT is tests/testdata
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:-$root/tests/testdata}")
dir=$(mktemp -d)
trap '"$root/scripts/ceph-cluster.sh" stop "$dir"' EXIT
"$root/scripts/ceph-cluster.sh" start "$dir" >/dev/null
cd "$root"
go run ./tests/fixtures/make -conf "$dir/ceph.conf" -out "$out"
