#!/bin/bash
# The worker container: what serves the boards starts at once; the ghosts and
# lava-worker start when the gate opens.
#
# The gate: write /run/meta-lava/worker.env (WORKER_NAME=..., TOKEN=...) and the
# boards, then anything into the FIFO /run/meta-lava/gate. With
# META_LAVA_WORKER_NAME and META_LAVA_WORKER_TOKEN it is open from the start.
here=/usr/lib/meta-lava
. $here/common/supervise.sh

service_log() {
    case $1 in
    lava-worker) tail -v -n 20 /var/log/lava-dispatcher/lava-worker.log ;;
    http) tail -v -n 20 /var/log/meta-lava-http-error.log ;;
    esac
}

open_gate() {
    local line name= token=
    while read -r line; do
        case $line in
        WORKER_NAME=*) name=${line#*=} ;;
        TOKEN=*) token=${line#*=} ;;
        esac
    done < /run/meta-lava/worker.env
    if [ -z "$name" ] || [ -z "$token" ]; then
        say "/run/meta-lava/worker.env has no WORKER_NAME or no TOKEN"
        leave 2
    fi
    [ ! -x /usr/bin/ghost ] || service ghost /usr/bin/ghost daemon
    printf '%s\n' "$name" "$token" > /run/meta-lava/identity
    # For a lava-worker that a test starts again.
    service_command[lava-worker]=$(printf '%q ' lava-worker "${arguments[@]}" --name "$name" --token "$token")
    cat /run/meta-lava/identity > /run/meta-lava/late &
}

finished() {
    [ "$1" = gate ] && [ "$2" = 0 ] || return 1
    open_gate
}

mkdir -p /var/lib/lava/dispatcher/tmp /var/lib/ghost/boards /var/log/lava-dispatcher
rm -f /run/meta-lava/gate /run/meta-lava/late
mkfifo /run/meta-lava/gate /run/meta-lava/late

cd /
arguments=(
    --level INFO --log-file /var/log/lava-dispatcher/lava-worker.log
    --url http://server/ --ws-url ws://server:8001/ws/
    --ping-interval "${META_LAVA_PING_INTERVAL:-1}"
    --job-log-interval "${META_LAVA_JOB_LOG_INTERVAL:-1}"
)
if [ -n "${META_LAVA_WORKER_NAME:-}" ] && [ -n "${META_LAVA_WORKER_TOKEN:-}" ]; then
    printf 'WORKER_NAME=%s\nTOKEN=%s\n' "$META_LAVA_WORKER_NAME" "$META_LAVA_WORKER_TOKEN" \
        > /run/meta-lava/worker.env
    service gate true
else
    service gate sh -c 'read -r _ < /run/meta-lava/gate'
fi
service tftpd in.tftpd --foreground --address 0.0.0.0:69 --user tftp --secure /var/lib/lava/dispatcher/tmp
service rpcbind rpcbind -f -w
service http lighttpd -D -f $here/worker/lighttpd.conf
mkdir -p /run/ganesha /var/run/ganesha
service nfs ganesha.nfsd -F -L /var/log/meta-lava-nfs-ganesha.log -p /run/meta-lava/ganesha.pid -f $here/worker/ganesha.conf
service lava-worker python3 $here/worker/late.py /run/meta-lava/late /usr/bin/lava-worker "${arguments[@]}" --name @NAME@ --token @TOKEN@
supervise
