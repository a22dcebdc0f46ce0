# Sourced by the entrypoints: runs daemons side by side; when one of them ends
# unasked, the container ends and says which one it was.
#
#   service NAME COMMAND...   starts and remembers a daemon
#   supervise                 never returns
#   finished NAME             the entrypoint's own: true if NAME was meant to end
#
# A test may take a daemon away on purpose: `touch /run/meta-lava/down/NAME`
# before killing it keeps the container alive; to have it started again, remove
# that file and send SIGUSR1 to the process in /run/meta-lava/supervisor.pid.
set -u
rm -rf /run/meta-lava/down /run/meta-lava/pid
mkdir -p /run/meta-lava/down /run/meta-lava/pid
echo $$ > /run/meta-lava/supervisor.pid

declare -A service_command=() service_pid=()

say() { echo "meta-lava: $*" >&2; }

service() {
    local name=$1
    shift
    service_command[$name]=$(printf '%q ' "$@")
    service_start "$name"
}

service_start() {
    local name=$1
    # A session of its own, so that a test can kill all of a daemon's processes.
    # What it prints besides its own log goes to a file named after it.
    eval "setsid ${service_command[$name]} >> /var/log/meta-lava-$name.log 2>&1 &"
    service_pid[$name]=$!
    echo "$!" > "/run/meta-lava/pid/$name"
}

leave() {
    trap '' TERM INT USR1
    local name
    for name in "${!service_pid[@]}"; do
        [ -n "${service_pid[$name]}" ] || continue
        case $name in
        postgresql) kill -INT "${service_pid[$name]}" ;;
        *) kill -KILL -- "-${service_pid[$name]}" ;;
        esac
    done 2> /dev/null
    [ -z "${service_pid[postgresql]:-}" ] || wait "${service_pid[postgresql]}"
    exit "$1"
}

supervise() {
    local name died status
    trap 'leave 0' TERM INT
    trap ':' USR1
    while :; do
        died=
        wait -n -p died
        status=$?
        for name in "${!service_command[@]}"; do
            if [ -n "${died:-}" ] && [ "${service_pid[$name]}" = "$died" ]; then
                service_pid[$name]=
                if finished "$name" "$status"; then
                    unset "service_command[$name]" "service_pid[$name]"
                    continue
                fi
                if [ ! -e "/run/meta-lava/down/$name" ]; then
                    say "$name ended with status $status, so this container ends"
                    tail -v -n 20 "/var/log/meta-lava-$name.log" >&2
                    service_log "$name" >&2
                    leave 1
                fi
            fi
            if [ -z "${service_pid[$name]}" ] && [ ! -e "/run/meta-lava/down/$name" ]; then
                say "starting $name again"
                service_start "$name"
            fi
        done
    done
}
