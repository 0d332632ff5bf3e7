#!/bin/sh
# test.sh all|unit: run the tests and end with the totals.
#
#   all   1. everything, with the race detector and Ceph where the machine has them
#         2. the packages once more as they are in the static binary (no cgo, no
#            Ceph), in short mode; chain and fs with a single processor, which shows
#            what only works because something else runs at the same time
#   unit  the packages in short mode
#
# PKG (./...) narrows the packages, TESTFLAGS goes to every `go test`.
set -eu
cd "$(dirname -- "$0")/.."

mode=${1:-all}
pkg=${PKG:-./...}
flags=${TESTFLAGS:-}

# Once is enough for what drives whole programs or looks at the sources.
packages() {
    CGO_ENABLED=0 go list -tags noceph "$pkg" |
        grep -Ev '^rbdbackupfs/(tests|scripts|internal/archtest)(/|$)' || true
}

# Where interleaving matters.
concurrent='^rbdbackupfs/(chain|fs)(/|$)'

# words prints its input on one line.
words() { tr '\n' ' '; }

if [ "$(go env CGO_ENABLED)" = 1 ]; then
    race=-race
    tags=${CEPH_BUILD_TAGS:-$(scripts/ceph-tags.sh || echo noceph)}
else
    race=
    tags=noceph
fi

set --
case $mode in
all)
    set -- "$tags${race:+, race}: go test -json $race -tags $tags -timeout 60m $flags $pkg"
    if [ -n "$race" ]; then
        some=$(packages | grep -Ev "$concurrent" | words || true)
        one=$(packages | grep -E "$concurrent" | words || true)
        static='go test -json -short -tags noceph'
        [ -z "$some" ] || set -- "$@" "static: CGO_ENABLED=0 $static $flags $some"
        [ -z "$one" ] || set -- "$@" "static, one processor: CGO_ENABLED=0 GOMAXPROCS=1 $static $flags $one"
    fi
    ;;
unit)
    set -- "unit: CGO_ENABLED=0 go test -json -short -tags noceph $flags $(packages | words)"
    ;;
*)
    echo "usage: test.sh all|unit" >&2
    exit 2
    ;;
esac

summary=$(mktemp -d)
trap 'rm -rf "$summary"' EXIT
CGO_ENABLED=0 go build -o "$summary/testsum" ./scripts/testsum
"$summary/testsum" "$@"
