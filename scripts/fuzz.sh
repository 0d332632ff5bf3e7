#!/bin/sh
# fuzz.sh: run every fuzz target below PKG (./...) for FUZZTIME (30s) each. What it
# finds lands in the package's testdata/fuzz: commit it with the fix.
set -eu
cd "$(dirname -- "$0")/.."

time=${FUZZTIME:-30s}
tags=${CEPH_BUILD_TAGS:-$(scripts/ceph-tags.sh || echo noceph)}
status=0
for package in $(go list -tags "$tags" "${PKG:-./...}"); do
    for target in $(go test -tags "$tags" -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
        echo "== $package $target"
        go test -tags "$tags" -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || status=1
    done
done
exit "$status"
