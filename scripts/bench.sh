#!/bin/sh
# bench.sh [OLD]: run every benchmark below PKG (./...), COUNT (6) times, keep the
# result in build/bench, and compare with the earlier result OLD.
set -eu
cd "$(dirname -- "$0")/.."

tags=${CEPH_BUILD_TAGS:-$(scripts/ceph-tags.sh || echo noceph)}
mkdir -p build/bench
new=build/bench/$(date -u +%Y%m%dT%H%M%SZ)-$(git describe --always --dirty).txt

# One package at a time: two benchmarks side by side measure each other.
go test -p 1 -tags "$tags" -run '^$' -bench . -benchmem -count "${COUNT:-6}" "${PKG:-./...}" >"$new" ||
    { cat "$new"; exit 1; }
grep -E '^(goos|goarch|pkg|cpu|Benchmark)' "$new"
echo "kept as $new"
if [ $# -gt 0 ]; then
    (cd tools && go tool benchstat "$OLDPWD/$1" "$OLDPWD/$new")
fi
