#!/bin/bash
# A throw-away Ceph cluster on loopback: one monitor, one OSD. It needs the
# daemons' packages (Debian: ceph-mon ceph-osd ceph-common), no root, no systemd
# and no configuration outside its folder, and any number of them run side by side.
#
#   ceph-cluster.sh start DIR [OPTION...]  starts it and returns; DIR/ceph.conf is its configuration
#   ceph-cluster.sh stop DIR               stops it and removes DIR
#   ceph-cluster.sh run DIR [OPTION...]    starts it, prints "ready DIR/ceph.conf", and stops it and
#                                          removes DIR when standard input ends. The daemons die with
#                                          this process even when it is killed: for tests.
#
# It has one pool, rbd.
#
#   --mgr    adds a manager, which only `ceph df`, `ceph status` counts, quotas and
#            rbd's scheduled tasks need
#   --disk   keeps the OSD's data on disk, in DIR, rather than in memory: it can be
#            killed and started again
set -euo pipefail

readonly deadline=60 # seconds, for every single wait
readonly marker=.rbdbackupfs-ceph-cluster

die() { echo "ceph-cluster: $*" >&2; exit 1; }

usage() {
    sed -n '2,/^set /{/^#/{s/^# \{0,1\}//;p}}' "$0" >&2
    exit 2
}

# write_conf PORT writes ceph.conf. Paths and pid files are set for the daemons
# alone, so that clients in the same process as a test write no log.
write_conf() {
    cat >"$dir/ceph.conf" <<END
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$1
mon initial members = a
public addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $dir/keyring
run dir = $dir/run
admin socket =
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
paxos propose interval = 0.05
paxos min wait = 0.02
[mon]
log file = $dir/log/\$name.log
pid file = $dir/run/\$name.pid
mon data = $dir/mon
[osd]
log file = $dir/log/\$name.log
pid file = $dir/run/\$name.pid
osd data = $dir/osd
osd objectstore = $store
memstore device bytes = 8G
bluestore block size = 8G
bluestore fsck on mount = false
[mgr]
log file = $dir/log/\$name.log
pid file = $dir/run/\$name.pid
mgr data = $dir/mgr
END
}

# daemon NAME ARGS... starts ceph-NAME in the background, to die with this
# process where that is what the caller wants.
daemon() {
    local name=$1
    shift
    if [[ $mode == run ]]; then
        setpriv --pdeathsig KILL "ceph-$name" -c "$dir/ceph.conf" -f "$@" </dev/null >>"$log" 2>&1 &
    else
        setsid "ceph-$name" -c "$dir/ceph.conf" -f "$@" </dev/null >>"$log" 2>&1 &
    fi
    started[$name]=$!
    echo "$!" >"$dir/run/ceph-$name.started"
    disown "$!" # its end is no news
}

# alive NAME tells whether the daemon still runs.
alive() { kill -0 "${started[$1]}" 2>/dev/null; }

# port prints a free port below the range that the kernel hands out itself.
port() {
    local try p
    for try in {1..100}; do
        p=$((RANDOM % 12000 + 20000))
        if ! (: <"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then
            echo "$p"
            return
        fi
    done
    die "no free port on 127.0.0.1 after $try tries"
}

keys() {
    ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n client.admin \
        --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' --cap mds 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n osd.0 \
        --cap mon 'allow profile osd' --cap osd 'allow *' --cap mgr 'allow profile osd'
    ceph-authtool "$dir/keyring" --gen-key -n mgr.x \
        --cap mon 'allow profile mgr' --cap osd 'allow *' --cap mds 'allow *'
}

# ask ARGS... runs a command against the cluster, with the deadline.
ask() { timeout "$deadline" "$@" >>"$log" 2>&1; }

# monitor starts the monitor; the port is chosen anew when another process
# was faster to take it.
monitor() {
    local try addr
    for try in {1..5}; do
        addr=$(port)
        write_conf "$addr"
        rm -rf "$dir/mon"
        mkdir "$dir/mon"
        monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$addr]" "$dir/monmap" >>"$log" 2>&1
        ceph-mon -c "$dir/ceph.conf" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring" >>"$log" 2>&1
        daemon mon -i a
        # "osd new" both waits for the monitor and names the OSD.
        if ask ceph -c "$dir/ceph.conf" osd new "$osd" 0; then
            return
        fi
        alive mon && die "the monitor does not answer: $(tail -n 5 "$log")"
    done
    die "the monitor does not start, after $try tries: $(tail -n 5 "$log")"
}

up() {
    local tool
    for tool in ceph ceph-mon ceph-osd ceph-authtool monmaptool rbd setpriv; do
        command -v "$tool" >/dev/null || die "$tool is not installed (Debian: ceph-mon ceph-osd ceph-common)"
    done
    mkdir -p "$dir"
    [[ -z $(ls -A "$dir") ]] || die "$dir is not empty"
    mkdir "$dir"/{osd,mgr,run,log}
    : >"$dir/$marker"
    keys >>"$log" 2>&1
    # The OSD's store needs no monitor: it is made while the monitor starts.
    write_conf 1
    cp "$dir/ceph.conf" "$dir/mkfs.conf"
    ceph-osd -c "$dir/mkfs.conf" -i 0 --mkfs --osd-uuid "$osd" --no-mon-config >>"$log" 2>&1 &
    local mkfs=$!
    monitor
    wait "$mkfs" || die "ceph-osd --mkfs: $(tail -n 5 "$log")"
    daemon osd -i 0
    if [[ $mgr == yes ]]; then
        daemon mgr -i x
    fi
    # Both wait for what they need: creating for the OSD, initialising for its pool.
    ask ceph -c "$dir/ceph.conf" osd pool create rbd 8 || die "pool create: $(tail -n 5 "$log")"
    ask rbd -c "$dir/ceph.conf" pool init rbd || die "pool init: $(tail -n 5 "$log")"
    if ! alive mon || ! alive osd; then
        die "a daemon died: $(tail -n 5 "$log")"
    fi
}

# gone waits until a killed process is no more. What is left of it until its
# parent notices has no command line.
gone() {
    local end=$((SECONDS + deadline))
    while [[ -n $({ tr -d '\0' <"/proc/$1/cmdline"; } 2>/dev/null) ]]; do
        [[ $SECONDS -lt $end ]] || die "process $1 does not end"
        sleep 0.02
    done
}

# down stops the daemons that were started in DIR, by their ids, and removes
# DIR. An id that now belongs to another program is left alone.
down() {
    local file pid
    [[ -e $dir/$marker ]] || { [[ ! -e $dir ]] && return; die "$dir holds no cluster of this script"; }
    for file in "$dir"/run/ceph-*.started; do
        [[ -e $file ]] || continue
        pid=$(<"$file")
        if { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "-c $dir/ceph.conf"; then
            # The stores are in memory: there is nothing to flush.
            kill -KILL "$pid" 2>/dev/null || true
            gone "$pid"
        fi
    done
    rm -rf "$dir"
}

[[ $# -ge 2 ]] || usage
mode=$1
dir=$(realpath -m "$2")
mgr=no
store=memstore
for option in "${@:3}"; do
    case $option in
    --mgr) mgr=yes ;;
    --disk) store=bluestore ;;
    *) usage ;;
    esac
done
log=$dir/log/cluster.log
fsid=$(</proc/sys/kernel/random/uuid)
osd=$(</proc/sys/kernel/random/uuid)
declare -A started

case $mode in
start)
    trap '[[ $? -eq 0 ]] || down' EXIT
    up
    echo "$dir/ceph.conf"
    ;;
run)
    trap down EXIT
    trap 'exit 143' INT TERM HUP
    up
    echo "ready $dir/ceph.conf"
    # In the background, so that a signal is not kept waiting.
    setpriv --pdeathsig KILL cat <&0 >/dev/null &
    wait "$!" || true
    ;;
stop) down ;;
*) usage ;;
esac
