#!/bin/sh
# demo.sh: a tour of rbdbackupfs on the real backups in tests/testdata/demo. It
# asks nothing, leaves nothing behind, and fails when a byte isn't what
# `rbd export` gave. `make demo` builds what it needs and calls it.
#
# RBDBACKUPFS is the absolute path of the program to show.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
program=${RBDBACKUPFS:-$root/bin/rbdbackupfs-static}
bundle=$root/tests/testdata/demo
sums=$bundle/SHA256SUMS
# Debian keeps losetup and blkid out of an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

work=''
bold='' green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$(printf '\033[1m') green=$(printf '\033[32m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
fi

title() { printf '\n%s%s%s\n\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$@"; }
good() { printf '%sok%s   %s\n' "$green" "$plain" "$*"; }
die() {
    printf '%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# show prints a command as one would type it.
show() { printf '  %s$ %s%s\n' "$bold" "$*" "$plain"; }

# indented sets what a command says apart from the tale around it.
indented() { sed 's/^/    /'; }

# run shows a command, runs it and shows what it says. Its status counts, so
# there is no pipe here.
run() {
    show "$@"
    if "$@" >"$work/said" 2>&1; then
        indented <"$work/said"
    else
        indented <"$work/said" >&2
        die "that failed: $*"
    fi
}

rbdbackupfs() { "$program" "$@"; }

# mounted tells whether something is mounted on a folder of the demo. The kernel
# writes a space in a path as \040.
mounted() {
    at=$work/$1 awk '{ gsub(/\\040/, " ", $2) } $2 == ENVIRON["at"] { found = 1 } END { exit !found }' /proc/self/mounts
}

# let_go ends the mount. A loop device is sometimes held for a moment by
# whoever looks at new devices, after it was unmounted.
let_go() {
    for try in 1 2 3 4 5; do
        rbdbackupfs umount "$work/mnt" >"$work/said" 2>&1 && return
        [ "$try" = 5 ] || sleep 1
    done
    return 1
}

# cleanup removes the folder only once nothing is mounted in it.
cleanup() {
    status=$?
    trap '' INT TERM HUP
    [ -n "$work" ] || exit "$status"
    cd /
    if mounted disk; then umount "$work/disk" || true; fi
    if mounted mnt && ! let_go; then
        cat "$work/said" >&2
        rbdbackupfs umount --lazy "$work/mnt" || true
    fi
    if mounted disk || mounted mnt; then
        printf 'demo: something in %s is still mounted; unmount it, then remove that folder\n' "$work" >&2
        exit 1
    fi
    rm -rf --one-file-system "$work"
    exit "$status"
}

# recorded gives the sha256 that `rbd export` had for a snapshot.
recorded() { awk -F '  ' -v what="$1" '$2 == what { print $1 }' "$sums"; }

sha256() { sha256sum "$1" | cut -d ' ' -f 1; }

# compare fails unless a file is, byte for byte, what rbd gave for a snapshot.
compare() { # file image@snapshot
    want=$(recorded "$2")
    [ -n "$want" ] || die "no checksum is recorded for $2"
    have=$(sha256 "$1")
    [ "$have" = "$want" ] || die "$1 has sha256 $have, but rbd export gave $want for $2"
}

# prepare copies the backups to a folder with a plain name, dated as a nightly
# job would have left them.
prepare() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/rbdbackupfs-demo.XXXXXX")
    work=$(cd "$work" && pwd -P)
    cd "$work"
    mkdir mnt disk
    cp -R "$bundle/repo" backup
    day=1
    for file in \
        rbd/testimg-copy/for-clone2.diff rbd/testimg-copy/for-clone2..v1.diff rbd/testimg-copy/for-clone2..v2.diff \
        rbd/mail/monday.raw rbd/mail/monday..tuesday.diff rbd/mail/tuesday..wednesday.diff \
        rbd/mail/wednesday..thursday.diff rbd/accounts/accounts.rbd2; do
        touch -d "2024-01-0${day}T02:00:00Z" "backup/$file"
        day=$((day + 1))
    done
}

show_backups() {
    title '1. What a backup of Ceph RBD looks like'
    say 'These files were written by the real rbd: a full export and two differences from it, a raw' \
        'export with increments, and one file in export format 2 that holds several snapshots.' ''
    show 'find backup -type f'
    find backup -type f -exec ls -l {} + | awk '{ printf "    %8d bytes  %s\n", $5, $NF }' | sort -k 3
    say '' 'Nothing but rbd can read them, and rbd needs a running cluster. Until now:'
}

show_tree() {
    title '2. Mount it'
    say 'No cluster, no copy. The backup files are only ever read. --index names the folder for what' \
        'rbdbackupfs remembers of them; without it, it has a place of its own.' ''
    run rbdbackupfs mount --wait --index index backup mnt
    say '' 'Now every snapshot of every image is an ordinary file:' ''
    show 'find mnt'
    find mnt | sort | indented
    say '' 'This is how the snapshots hang together, and what there is of each:' ''
    run rbdbackupfs ls mnt
}

show_copy() {
    title '3. Bring one snapshot back'
    say 'A snapshot has the full size of its disk and takes what it really holds. cp sees the holes:' ''
    run cp --sparse=always mnt/images/rbd/testimg-copy/for-clone2.img restored.img
    run ls -lsh restored.img
    run sha256sum restored.img
    compare restored.img rbd/testimg-copy@for-clone2
    say ''
    good 'that is the sha256 of what "rbd export" gave for rbd/testimg-copy@for-clone2'

    count=0
    while read -r _ what _; do
        compare "mnt/images/${what%@*}/${what##*@}.img" "$what"
        count=$((count + 1))
    done <"$sums"
    [ "$count" -gt 0 ] || die "no checksums in $sums"
    good "and so are all $count snapshots in the tree, byte for byte"
}

# expect fails unless a listing is the given one.
expect() { # what listing wanted
    [ "$2" = "$3" ] || die "$1 has: $2; it should have: $3"
}

readonly before='111 222 test test1'
readonly after='111 222 aaa.txt boy test test1'

# names lists the files of the mounted disk on one line.
names() {
    for file in disk/*; do
        [ "$file" = disk/lost+found ] || printf '%s ' "${file#disk/}"
    done | sed 's/ $//'
}

look_with_loop() { # snapshot wanted
    run ls disk
    expect "$1" "$(names)" "$2"
    if [ -e disk/boy ]; then
        run cat disk/aaa.txt disk/boy
        expect aaa.txt "$(cat disk/aaa.txt)" 'pretty girl'
        expect boy "$(cat disk/boy)" 'handsome boy'
    fi
    run umount disk
}

show_files_with_loop() {
    say 'The disk has an ext4 file system. The older snapshot, then the newer one:' ''
    show 'rbdbackupfs browse mnt rbd/testimg-copy@for-clone2 disk'
    if ! rbdbackupfs browse mnt rbd/testimg-copy@for-clone2 disk >said 2>&1; then
        indented <said
        say '' 'This machine does not let root use a loop device; a container often does not.'
        show_files_without_loop
        return
    fi
    indented <said
    look_with_loop for-clone2 "$before"
    say ''
    run rbdbackupfs browse mnt rbd/testimg-copy@v2 disk
    look_with_loop v2 "$after"
    say ''
    good 'for-clone2 has 111 222 test test1; v2 has aaa.txt and boy as well'
}

# file_names lists the files of a snapshot on one line.
file_names() { # snapshot
    rbdbackupfs files mnt "rbd/testimg-copy@$1:/" |
        awk '{ print $NF }' | grep -v '^lost+found' | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//'
}

show_files_without_loop() {
    say 'rbdbackupfs reads ext4 without mounting it. The older snapshot, then the newer one:' ''
    run rbdbackupfs files mnt rbd/testimg-copy@for-clone2:/
    say ''
    run rbdbackupfs files mnt rbd/testimg-copy@v2:/
    expect for-clone2 "$(file_names for-clone2)" "$before"
    expect v2 "$(file_names v2)" "$after"
    say ''
    run rbdbackupfs files mnt rbd/testimg-copy@v2:/boy -
    boy=$(rbdbackupfs files mnt rbd/testimg-copy@v2:/boy -)
    expect boy "$boy" 'handsome boy'
    say ''
    good 'for-clone2 has 111 222 test test1; v2 has aaa.txt and boy as well'
}

show_files() {
    title '4. Get a single file out of a snapshot'
    if [ "$(id -u)" -eq 0 ]; then
        show_files_with_loop
    else
        say 'Mounting takes root, and you are not root.'
        show_files_without_loop
    fi
}

show_restore() {
    title '5. Bring images back by cp'
    say 'What is written to import/ is restored while it is written. Here that goes to a folder of raw files;' \
        'with --import ceph: it goes into the cluster. The mount is made anew for it:' ''
    show 'rbdbackupfs umount mnt'
    let_go || die 'the mount did not end'
    run rbdbackupfs mount --wait --index index --import file:restored backup mnt
    say '' 'A full export, the difference to v2 on top of it, and an image straight out of a snapshot:' ''
    run cp backup/rbd/testimg-copy/for-clone2.diff mnt/import/rbd/testbacknew
    compare restored/rbd/testbacknew.img rbd/testimg-copy@for-clone2
    run cp 'backup/rbd/testimg-copy/for-clone2..v2.diff' mnt/import/rbd/testbacknew
    compare restored/rbd/testbacknew.img rbd/testimg-copy@v2
    run cp mnt/images/rbd/mail/thursday.img mnt/import/rbd/mail-restored
    compare restored/rbd/mail-restored.img rbd/mail@thursday
    say ''
    good 'each of them is, byte for byte, what rbd export gave for that snapshot'
    say '' 'A difference that was applied already is refused, and nothing changes:' ''
    show 'cp backup/rbd/testimg-copy/for-clone2..v2.diff mnt/import/rbd/testbacknew'
    if cp 'backup/rbd/testimg-copy/for-clone2..v2.diff' mnt/import/rbd/testbacknew >said 2>&1; then
        die 'it was applied twice'
    fi
    indented <said
    compare restored/rbd/testbacknew.img rbd/testimg-copy@v2
    say ''
    run rbdbackupfs jobs mnt
}

show_end() {
    title '6. Unmount'
    show 'rbdbackupfs umount mnt'
    if ! let_go; then
        indented <said >&2
        die 'the mount did not end'
    fi
    if mounted mnt; then die 'mnt is still mounted'; fi
    diff -r "$bundle/repo" backup >/dev/null || die 'the backup files have changed'
    good 'unmounted, and the backup files are what they were'
}

show_next() {
    title 'Next, with your own backups'
    short=$program
    case $program in "$root"/*) short=${program#"$root"/} ;; esac
    say "    $short ls /path/to/exports                # what is there, and what is wrong with it" \
        '    mkdir /tmp/backups' \
        "    $short mount /path/to/exports /tmp/backups" \
        '    ls /tmp/backups/images' \
        "    $short umount /tmp/backups" \
        '' "README.md tells the rest; $short --help, too."
}

main() {
    [ -x "$program" ] || die "$program is not there: run make demo, which builds it"
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    prepare
    show_backups
    show_tree
    show_copy
    show_files
    show_restore
    show_end
    show_next
}

main "$@"
