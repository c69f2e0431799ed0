#!/usr/bin/env bash
# Starts a network of N nodes on this machine, from nothing: installs what is missing, builds,
# initialises, starts, waits until all are ready. Ctrl-C stops all of them.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
# shellcheck source=node/setup.sh
. "$here/setup.sh"

# How long the nodes may take to get ready, and to stop, in seconds.
READY_SECONDS=60
STOP_SECONDS=30
MAX_NODES=100
# The last from which a node has room for its three ports.
MAX_BASE_PORT=65533

usage() {
    cat <<'TEXT'
node/launch.sh N [--data FILE] [--dir DIR] [--consensus bft|full-consent] [--base-port PORT] [--detach]
node/launch.sh stop [--dir DIR]

  N            how many nodes, one an organisation: 1 to 100
  --data       records to submit when the nodes are ready: JSON, JSON lines or CSV
  --dir        where the network lives (network/ beside node/ unless given); made unless it is there
  --consensus  what counts as agreement in a new network (bft unless given)
  --base-port  where the ports of a new network begin, ten a node (3401 unless given): for two side by side
  --detach     leave the nodes running; 'node/launch.sh stop' ends them

Ctrl-C stops all nodes that it started. It can be run from any directory.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C (129: by SIGHUP, 143: by SIGTERM).
TEXT
}

misuse() { EXIT_CODE=2 die "$*; see node/launch.sh --help"; }

what="" dir="$root/network" data="" consensus="" base_port="" detach=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help | help) usage && exit 0 ;;
        --data | --dir | --consensus | --base-port)
            [[ $# -ge 2 && -n "$2" ]] || misuse "$1 needs a value"
            ;;&
        --data) data="$2" && shift 2 ;;
        --dir) dir="$2" && shift 2 ;;
        --consensus) consensus="$2" && shift 2 ;;
        --base-port) base_port="$2" && shift 2 ;;
        --detach) detach=yes && shift ;;
        -*) misuse "$1 is not known" ;;
        *)
            [ -z "$what" ] || misuse "'$1' is one too many after '$what'"
            what="$1" && shift
            ;;
    esac
done
[ -n "$what" ] || misuse "say how many nodes, or stop"
dir="$(realpath -m -- "$dir")"

# pid_of NODE: the process that its pid file names, if it is still that node: pids are used again.
pid_of() {
    local pid command
    [ -f "$dir/$1/node.pid" ] || return 1
    pid="$(cat "$dir/$1/node.pid")"
    command="$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" || return 1
    [[ "$command" == *" start $dir/$1 " ]] && echo "$pid"
}

# running_nodes: those that this script has started and that run, one a line.
running_nodes() {
    local file node
    for file in "$dir"/*/node.pid; do
        node="$(basename "$(dirname "$file")")"
        ! pid_of "$node" >/dev/null || echo "$node"
    done
}

# Ends all nodes cleanly; those that do not end in time are killed, which they must survive too.
stop_nodes() {
    local node pid deadline=$((SECONDS + STOP_SECONDS)) nodes=()
    mapfile -t nodes < <(running_nodes)
    if [ "${#nodes[@]}" -eq 0 ]; then
        say "nothing to stop: no node of $dir runs that node/launch.sh has started"
        return
    fi
    for node in "${nodes[@]}"; do
        ! pid="$(pid_of "$node")" || kill -TERM "$pid" 2>/dev/null || true
    done
    for node in "${nodes[@]}"; do
        while pid="$(pid_of "$node")" && [ "$SECONDS" -lt "$deadline" ]; do
            sleep 0.1
        done
        if pid="$(pid_of "$node")"; then
            say "$node did not stop within ${STOP_SECONDS}s; killed"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        rm -f "$dir/$node/node.pid"
    done
    say "stopped: ${#nodes[@]} nodes"
}

if [ "$what" = stop ]; then
    [ -z "$data$consensus$base_port$detach" ] || misuse "stop takes --dir alone"
    stop_nodes
    exit 0
fi
# within TEXT MOST: is it a number from 1 to MOST? Leading zeros are none of a number of base 8.
within() { [[ "$1" =~ ^[0-9]{1,5}$ && "$((10#$1))" -ge 1 && "$((10#$1))" -le "$2" ]]; }

within "$what" "$MAX_NODES" || misuse "'$what' is neither a number of nodes from 1 to $MAX_NODES nor stop"
count="$((10#$what))"
if [ -n "$data" ]; then
    [[ -r "$data" && ! -d "$data" ]] || misuse "--data $data is not a file that can be read"
fi
case "$consensus" in
    "" | bft | full-consent) ;;
    *) misuse "--consensus is bft or full-consent, not '$consensus'" ;;
esac
if [ -n "$base_port" ]; then
    most="$((MAX_BASE_PORT - 10 * (count - 1)))"
    within "$base_port" "$most" || misuse "--base-port is from 1 to $most for $count nodes, not '$base_port'"
    base_port="$((10#$base_port))"
fi

build() {
    ensure_build_tools
    if [ ! -x "$CARGO_TARGET_DIR/release/minidlt" ]; then
        say "building; the first time it takes about 20 minutes on two cores"
    fi
    (cd "$root" && cargo build --release --locked -p minidlt) 9>&- || die "the build failed; see what cargo says above"
    minidlt="$CARGO_TARGET_DIR/release/minidlt"
}

# check_network: does the network that is there fit what is asked for?
check_network() {
    local there own
    [ -e "$dir/genesis.yaml" ] || return 0
    there="$(find "$dir" -maxdepth 1 -type d -name 'node[0-9]*' | wc -l)"
    [ "$there" -eq "$count" ] ||
        misuse "$dir holds a network of $there nodes, not $count; give another --dir or remove it"
    [ -z "$consensus" ] || grep -qx "consensus: $consensus" "$dir/genesis.yaml" ||
        misuse "$dir holds a network with another consensus; give another --dir or remove it"
    own="$(port_of node0 api_listen)" || own="?"
    [ -z "$base_port" ] || [ "$base_port" = "$own" ] ||
        say "the network in $dir keeps its own ports, from $own on; --base-port is for a new one"
}

# One run at a time goes from looking at the directory to starting its nodes. The lock is the kernel's and
# ends with this process, whose long-lived children do not get it; its file lies with what is built, for in
# DIR it would be in init's way.
lock() {
    local file
    file="$CARGO_TARGET_DIR/launch-$(printf '%s' "$dir" | sha256sum | cut -c 1-16).lock"
    mkdir -p "$CARGO_TARGET_DIR"
    exec 9>"$file"
    flock --nonblock 9 || die "the network in $dir is being started already, by another node/launch.sh"
}

initialise() {
    [ ! -e "$dir/genesis.yaml" ] || return 0
    "$minidlt" init --nodes "$count" --dir "$dir" \
        ${consensus:+--consensus "$consensus"} ${base_port:+--base-port "$base_port"} >&2 9>&-
}

# port_of NODE KEY: the port in the node's file.
port_of() { sed -n "s/^$2: .*:\([0-9]*\)\$/\1/p" "$dir/$1/config.yaml"; }

start_node() {
    local node="$1" log="$dir/$1/node.log"
    # A session of its own: Ctrl-C reaches this script alone, which then stops the nodes in order.
    setsid "$minidlt" start "$dir/$node" >>"$log" 2>&1 </dev/null 9>&- &
    echo $! >"$dir/$node/node.pid"
    # Until the new process has become the node, its pid says nothing.
    while kill -0 $! 2>/dev/null && ! pid_of "$node" >/dev/null; do
        sleep 0.01
    done
}

ready() { curl -fsS -o /dev/null --max-time 2 "http://127.0.0.1:$(port_of "$1" health_listen)/readyz" 2>/dev/null; }

# last_words NODE: why it ended, as its log says.
last_words() {
    local line
    line="$(tail -n 1 "$dir/$1/node.log")"
    echo "${line#minidlt: }"
}

# A node is ready only with a quorum, so all are started before any is waited for.
await_nodes() {
    local node i pending deadline=$((SECONDS + READY_SECONDS))
    while :; do
        pending=()
        for ((i = 0; i < count; i++)); do
            node="node$i"
            ready "$node" && continue
            pid_of "$node" >/dev/null || die "$node ended: $(last_words "$node"); all it said is in $dir/$node/node.log"
            pending+=("$node")
        done
        [ "${#pending[@]}" -gt 0 ] || break
        [ "$SECONDS" -lt "$deadline" ] ||
            die "not ready after ${READY_SECONDS}s: ${pending[*]}; see their logs, such as $dir/${pending[0]}/node.log"
        [ ! -t 2 ] || printf '\rwaiting for %d of %d nodes ' "${#pending[@]}" "$count" >&2
        sleep 0.2
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    say "$count nodes are ready"
}

tell() {
    local i node
    for ((i = 0; i < count; i++)); do
        node="node$i"
        echo "$node  https://127.0.0.1:$(port_of "$node" api_listen)  log $dir/$node/node.log"
    done
    echo "try:  curl --cacert $dir/ca.crt --cert $dir/users/admin/tls.crt --key $dir/users/admin/tls.key" \
        "https://127.0.0.1:$(port_of node0 api_listen)/v1/status"
}

# In the background, for a signal is heard while the shell waits and not while a program runs.
submit_data() {
    "$minidlt" submit --as "$dir/users/trader" --wait --blocks "$data" <&0 &
    submitting=$!
    wait "$submitting" || status=$?
    submitting=""
}

# A second Ctrl-C must not leave nodes behind.
clean_up() {
    trap '' INT TERM HUP
    if [ -n "$submitting" ]; then
        kill -TERM "$submitting" 2>/dev/null || true
        wait "$submitting" 2>/dev/null || true
    fi
    stop_nodes
}

# Until Ctrl-C, or until no node is left; tells of each that ends, once.
keep_watch() {
    local i left told=()
    while :; do
        left=0
        for ((i = 0; i < count; i++)); do
            if pid_of "node$i" >/dev/null; then
                left=$((left + 1))
            elif [ -z "${told[i]:-}" ]; then
                told[i]=yes
                say "node$i has ended; see $dir/node$i/node.log"
            fi
        done
        [ "$left" -gt 0 ] || die "no node is left"
        # Nobody who reads what this script prints is to wait for this.
        sleep 2 >/dev/null 2>&1 &
        wait $!
    done
}

minidlt="" ending="" submitting="" status=0
# Before the build, which is long, and before the trap: what another run started is not this one's.
lock
alive="$(running_nodes | tr '\n' ' ')"
[ -z "$alive" ] || die "the network in $dir runs already (${alive% }); stop it with: node/launch.sh stop --dir $dir"
check_network
build
initialise
trap clean_up EXIT
# Not at once: a node that has been started and whose pid is not written yet would be left behind.
trap 'ending=129' HUP
trap 'ending=130' INT
trap 'ending=143' TERM
for ((i = 0; i < count; i++)); do
    [ -n "$ending" ] || start_node "node$i"
done
# From now on the nodes themselves tell another run of this one.
flock --unlock 9
exec 9>&-
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
[ -z "$ending" ] || exit "$ending"
await_nodes
tell
[ -z "$data" ] || submit_data
if [ -n "$detach" ]; then
    trap - EXIT
    echo "left running; stop with: node/launch.sh stop --dir $dir"
    exit "$status"
fi
[ "$status" -eq 0 ] || say "not all records were committed (exit code $status); the nodes run on"
trap 'exit "$((status == 0 ? 130 : status))"' INT
echo "running; Ctrl-C stops all nodes"
keep_watch
