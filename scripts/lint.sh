#!/bin/sh
# lint.sh: everything that can be said about the code without running it. All
# checks run; the exit status is that of the worst.
#
# LINT is the path of golangci-lint (`make lint` builds it).
set -eu
cd "$(dirname -- "$0")/.."

status=0
check() { # title command...
    title=$1
    shift
    if "$@"; then
        echo "ok   $title"
    else
        echo "FAIL $title" >&2
        status=1
    fi
}

go_files() { git ls-files --cached --others --exclude-standard '*.go'; }

formatted() {
    # shellcheck disable=SC2046 # no file name of ours has a space
    unformatted=$(gofmt -s -l $(go_files))
    [ -z "$unformatted" ] && return
    printf 'not formatted (make fmt does it):\n%s\n' "$unformatted" >&2
    return 1
}

# vet_static sees what only the build without Ceph compiles, vet_ceph the rest.
vet_static() { CGO_ENABLED=0 go vet -tags noceph ./...; }
vet_ceph() { go vet -tags "$tags" ./...; }

golangci() { # tags packages...
    golangci_tags=$1
    shift
    "${LINT:?run make lint}" run --build-tags "$golangci_tags" "$@"
}

shell_scripts() {
    # shellcheck disable=SC2046
    shellcheck --severity=warning $(git ls-files '*.sh') .ci/run
}

check 'gofmt' formatted
check 'go vet, without Ceph' vet_static
if [ "$(go env CGO_ENABLED)" = 1 ] && tags=${CEPH_BUILD_TAGS:-$(scripts/ceph-tags.sh)}; then
    check "go vet, $tags" vet_ceph
    check "golangci-lint, $tags" golangci "$tags" ./...
    check 'golangci-lint of the Ceph stub' golangci noceph ./ceph/...
else
    echo '     librbd headers are not installed: the part that talks to Ceph is not checked (make deps)'
    check 'golangci-lint' golangci noceph ./...
fi
check 'architecture' go test -tags noceph ./internal/archtest
check 'go.mod is tidy' go mod tidy -diff
if command -v shellcheck >/dev/null 2>&1; then
    check 'shellcheck' shell_scripts
else
    echo '     shellcheck is not installed: the shell scripts are not checked (make deps)'
fi
exit "$status"
