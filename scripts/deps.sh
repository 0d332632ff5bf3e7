#!/bin/sh
# Install what this project needs and this machine lacks.
#
#   scripts/deps.sh [--try] [--check] GROUP...
#
# Groups:
#   go         checks the Go version; CA certificates
#   build      go, and a C compiler, make, git
#   ceph-dev   headers of librbd and librados, for the build with Ceph
#   demo       FUSE, ext4 tools, loop mounts
#   test       everything the tests use: demo, a real Ceph, QEMU, XFS, Btrfs, compressors, ...
#   lint       shellcheck
#
# --try    a failed installation is a message, not an error: what needs the
#          missing thing is then skipped
# --check  only say what is missing; exit 1 if anything is
#
# It asks nothing, uses apt-get or dnf, and sudo only when not root. When nothing
# is missing it prints nothing and touches nothing.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# Debian keeps mkfs, losetup and others out of an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

try=false
check=false
missing=''     # lines "what<TAB>apt packages<TAB>dnf packages<TAB>why"
tab=$(printf '\t')

say() { printf '%s\n' "$*" >&2; }

usage() {
    sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

add() { # what apt dnf why
    missing="$missing$1$tab$2$tab$3$tab$4
"
}

need_program() { # program apt dnf why
    command -v "$1" >/dev/null 2>&1 || add "$1" "$2" "$3" "$4"
}

need_header() { # header apt dnf why
    # Without a compiler the preprocessor can't tell; the usual place then does.
    if command -v "${CC:-cc}" >/dev/null 2>&1; then
        printf '#include <%s>\n' "$1" | "${CC:-cc}" -E -x c - >/dev/null 2>&1 && return
    elif [ -e "/usr/include/$1" ]; then
        return
    fi
    add "$1" "$2" "$3" "$4"
}

group_build() {
    group_go
    need_program "${CC:-cc}" 'gcc' 'gcc' 'to compile the part that talks to Ceph'
    need_header stdio.h 'libc6-dev' 'glibc-devel' 'to compile the part that talks to Ceph'
    need_program make 'make' 'make' 'to run the build'
    need_program git 'git' 'git' 'to stamp the version'
}

group_go() {
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] ||
        [ -e /etc/ssl/cert.pem ] ||
        add 'CA certificates' 'ca-certificates' 'ca-certificates' 'for Go to download modules'
}

group_ceph_dev() {
    need_header rados/librados.h 'librados-dev' 'librados-devel' 'to build with Ceph'
    need_header rbd/librbd.h 'librbd-dev' 'librbd-devel' 'to build with Ceph'
}

group_demo() {
    need_program fusermount3 'fuse3' 'fuse3' 'to mount without being root'
    need_program mkfs.ext4 'e2fsprogs' 'e2fsprogs' 'to look into an ext4 image'
    need_program losetup 'mount' 'util-linux' 'to loop-mount an image'
    need_program mount 'mount' 'util-linux' 'to loop-mount an image'
    need_program findmnt 'util-linux' 'util-linux' 'to see what is mounted'
    need_program cmp 'diffutils' 'diffutils' 'to compare images'
}

group_test() {
    group_demo
    need_program ceph-mon 'ceph-mon' 'ceph-mon' 'for a real one-node Ceph cluster in the tests'
    need_program ceph-osd 'ceph-osd' 'ceph-osd' 'for a real one-node Ceph cluster in the tests'
    need_program ceph-mgr 'ceph-mgr' 'ceph-mgr' 'for a real one-node Ceph cluster in the tests'
    need_program monmaptool 'ceph-base ceph-common' 'ceph-base ceph-common' 'for a real one-node Ceph cluster in the tests'
    need_program ceph 'ceph-common' 'ceph-common' 'for a real one-node Ceph cluster in the tests'
    need_program rbd 'ceph-common' 'ceph-common' 'the rbd command is what the tests compare with'
    need_program qemu-img 'qemu-utils' 'qemu-img' 'to test that QEMU reads the images'
    need_program qemu-io 'qemu-utils' 'qemu-img' 'to test that QEMU reads the images'
    need_program mkfs.xfs 'xfsprogs' 'xfsprogs' 'to test with XFS images'
    need_program mkfs.btrfs 'btrfs-progs' 'btrfs-progs' 'to test with Btrfs images'
    need_program fio 'fio' 'fio' 'to test writes to scratch files'
    need_program mkfs.fat 'dosfstools' 'dosfstools' 'to test partition tables and FAT images'
    need_program mcopy 'mtools' 'mtools' 'to fill FAT images without being root'
    need_program mkfs.ntfs 'ntfs-3g' 'ntfsprogs' 'to test partition tables and FAT images'
    need_program sfdisk 'fdisk' 'util-linux' 'the tests compare partitions with it'
    need_program sgdisk 'gdisk' 'gdisk' 'the tests compare partitions with it'
    need_program parted 'parted' 'parted' 'the tests compare partitions with it'
    need_program partx 'util-linux' 'util-linux' 'the tests compare partitions with it'
    need_program rsync 'rsync' 'rsync' 'to test that rsync copies the images'
    need_program getfattr 'attr' 'attr' 'to test extended attributes'
    need_program gzip 'gzip' 'gzip' 'to test compressed exports'
    need_program pigz 'pigz' 'pigz' 'to test compressed exports'
    need_program bgzip 'tabix' 'htslib-tools' 'to test compressed exports'
    need_program zstd 'zstd' 'zstd' 'to unpack test data and to test compressed exports'
    need_program pzstd 'zstd' 'zstd' 'to test compressed exports'
    need_program lz4 'lz4' 'lz4' 'to test compressed exports'
    need_program xz 'xz-utils' 'xz' 'to test compressed exports'
    need_program bzip2 'bzip2' 'bzip2' 'to test compressed exports'
    need_program pbzip2 'pbzip2' 'pbzip2' 'to test compressed exports'
    need_program tar 'tar' 'tar' 'to test exports in archives'
    need_program ps 'procps' 'procps-ng' 'to look for processes left behind'
}

group_lint() {
    need_program shellcheck 'shellcheck' 'ShellCheck' 'to check the shell scripts'
}

# check_go compares the Go command with the version that go.mod asks for. Since Go
# 1.21 the command fetches a newer toolchain by itself, unless that is switched off.
check_go() {
    want=$(sed -n 's/^go //p' "$root/go.mod")
    if ! command -v go >/dev/null 2>&1; then
        have=''
    elif have=$(cd "$root" && go env GOVERSION 2>/dev/null) && [ -n "$have" ]; then
        have=${have#go}
        have=${have%%[!0-9.]*}
        newest=$(printf '%s\n%s\n' "$want" "$have" | sort -V | tail -n 1)
        [ "$newest" = "$have" ] && return 0
    else
        have='a version that refuses this go.mod'
    fi
    say "This project needs Go $want or newer; this machine has ${have:-none}."
    say "Distributions are often behind. Get it from https://go.dev/dl/ :"
    case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
    say "    rm -rf /usr/local/go && tar -C /usr/local -xzf go$want.linux-$arch.tar.gz"
    say "    export PATH=/usr/local/go/bin:\$PATH"
    return 1
}

# column prints one column of the missing things, as words without duplicates.
column() { printf '%s' "$missing" | cut -f "$1" | tr ' ' '\n' | awk 'NF && !seen[$0]++' | tr '\n' ' '; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

install() {
    if command -v apt-get >/dev/null 2>&1; then
        packages=$(column 2)
        command="apt-get install -y --no-install-recommends $packages"
    elif command -v dnf >/dev/null 2>&1; then
        packages=$(column 3)
        command="dnf install -y --setopt=install_weak_deps=False $packages"
    else
        say "Neither apt-get nor dnf is here. Please install by hand, then try again."
        return 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        say "That takes root, and sudo would ask for a password. Please run:"
        say "    sudo $command"
        return 1
    fi
    say "Running: $command"
    # The package lists of a fresh container are empty, those of an old machine stale.
    case $command in
    apt-get*)
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 ||
            say "apt-get update did not finish; going on with the lists at hand."
        # shellcheck disable=SC2086 # packages is a list of words
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends $packages >&2 </dev/null
        ;;
    *)
        # shellcheck disable=SC2086
        as_root dnf install -y -q --setopt=install_weak_deps=False $packages >&2 </dev/null
        ;;
    esac
}

collect() {
    missing=''
    for group; do
        case $group in
        go) group_go ;;
        build) group_build ;;
        ceph-dev) group_ceph_dev ;;
        demo) group_demo ;;
        test) group_test ;;
        lint) group_lint ;;
        *) say "deps.sh: unknown group $group"; usage ;;
        esac
    done
}

report() {
    printf '%s' "$missing" | awk -F "$tab" '!seen[$1]++ { printf "    %-16s %s\n", $1, $4 }' >&2
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --try) try=true ;;
        --check) check=true ;;
        -*) usage ;;
        *) break ;;
        esac
        shift
    done
    [ $# -gt 0 ] || usage
    case " $* " in *' build '* | *' go '*) check_go || exit 1 ;; esac

    collect "$@"
    [ -n "$missing" ] || exit 0
    say "Missing on this machine:"
    report
    if $check; then exit 1; fi

    if install; then
        collect "$@"
        [ -n "$missing" ] || exit 0
        say "Still missing after the installation:"
        report
    fi
    if $try; then
        say "Going on without; what needs it is skipped."
        exit 0
    fi
    exit 1
}

main "$@"
