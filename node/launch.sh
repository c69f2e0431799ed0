#!/usr/bin/env bash
# Starts a network of N nodes on this machine, from nothing: installs what is missing, builds,
# initialises, starts, waits until all are ready. Ctrl-C stops all of them.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
# shellcheck source=node/setup.sh
. "$here/setup.sh"

# How long a node may take to get ready, and to stop, in seconds.
READY_SECONDS=60
STOP_SECONDS=30

usage() {
    cat <<'TEXT'
node/launch.sh N [--data FILE] [--dir DIR] [--consensus bft|full-consent] [--detach]
node/launch.sh stop [--dir DIR]

  N            how many nodes, one an organisation
  --data       records to submit when the nodes are ready: JSON, JSON lines or CSV
  --dir        where the network lives (network/ unless given); initialised unless it is there
  --consensus  what counts as agreement in a new network (bft unless given)
  --detach     leave the nodes running; 'node/launch.sh stop' ends them
TEXT
}

misuse() { EXIT_CODE=2 die "$*; see node/launch.sh --help"; }

dir="$root/network"
data="" consensus="" detach=""
[ $# -gt 0 ] || misuse "say how many nodes, or stop"
what="$1"
shift
while [ $# -gt 0 ]; do
    case "$1" in
        --data | --dir | --consensus) [ $# -ge 2 ] || misuse "$1 needs a value" ;;&
        --data) data="$2" && shift 2 ;;
        --dir) dir="$2" && shift 2 ;;
        --consensus) consensus="$2" && shift 2 ;;
        --detach) detach=yes && shift ;;
        *) misuse "$1 is not known" ;;
    esac
done

dir="$(realpath -m "$dir")"

# pid_of NODE: the process that its pid file names, if it is still that node: pids are used again.
pid_of() {
    local pid command
    [ -f "$dir/$1/node.pid" ] || return 1
    pid="$(cat "$dir/$1/node.pid")"
    command="$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" || return 1
    [[ "$command" == *" start $dir/$1 " ]] && echo "$pid"
}

# Ends all nodes cleanly; those that do not end in time are killed, which they must survive too.
stop_nodes() {
    local node pid waited=0 running=()
    for node in "$dir"/node*/; do
        node="$(basename "$node")"
        if pid="$(pid_of "$node")"; then
            kill -TERM "$pid" 2>/dev/null || true
            running+=("$node")
        fi
    done
    for node in "${running[@]}"; do
        while pid="$(pid_of "$node")" && [ "$waited" -lt $((STOP_SECONDS * 10)) ]; do
            sleep 0.1
            waited=$((waited + 1))
        done
        if pid="$(pid_of "$node")"; then
            say "$node did not stop within ${STOP_SECONDS}s; killed"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        rm -f "$dir/$node/node.pid"
    done
    say "stopped: ${#running[@]} nodes"
}

case "$what" in
    -h | --help | help) usage && exit 0 ;;
    stop) stop_nodes && exit 0 ;;
    *[!0-9]* | 0 | "") misuse "'$what' is neither a number of nodes nor stop" ;;
esac
count="$what"
[ -z "$data" ] || [ -r "$data" ] || misuse "$data cannot be read"
case "$consensus" in
    "" | bft | full-consent) ;;
    *) misuse "--consensus is bft or full-consent, not '$consensus'" ;;
esac

build() {
    ensure_build_tools
    if [ ! -x "$CARGO_TARGET_DIR/release/minidlt" ]; then
        say "building; the first time it takes about 20 minutes on two cores"
    fi
    (cd "$root" && cargo build --release --locked -p minidlt) || die "the build failed; see what cargo says above"
    minidlt="$CARGO_TARGET_DIR/release/minidlt"
}

initialise() {
    local there
    if [ ! -e "$dir/genesis.yaml" ]; then
        "$minidlt" init --nodes "$count" --dir "$dir" ${consensus:+--consensus "$consensus"} >&2
        return
    fi
    there="$(find "$dir" -maxdepth 1 -type d -name 'node[0-9]*' | wc -l)"
    [ "$there" -eq "$count" ] ||
        misuse "$dir holds a network of $there nodes, not $count; give another --dir or remove it"
    [ -z "$consensus" ] || grep -qx "consensus: $consensus" "$dir/genesis.yaml" ||
        misuse "$dir holds a network with another consensus; give another --dir or remove it"
}

# port_of NODE KEY: the port in the node's file.
port_of() { sed -n "s/^$2: .*:\([0-9]*\)\$/\1/p" "$dir/$1/config.yaml"; }

start_node() {
    local node="$1" log="$dir/$1/node.log"
    # A session of its own: Ctrl-C reaches this script alone, which then stops the nodes in order.
    setsid "$minidlt" start "$dir/$node" >>"$log" 2>&1 </dev/null &
    echo $! >"$dir/$node/node.pid"
    # Until the new process has become the node, its pid says nothing.
    while kill -0 $! 2>/dev/null && ! pid_of "$node" >/dev/null; do
        sleep 0.01
    done
}

ready() { curl -fsS -o /dev/null --max-time 2 "http://127.0.0.1:$(port_of "$1" health_listen)/readyz" 2>/dev/null; }

# A node is ready only with a quorum, so all are started before any is waited for.
await_nodes() {
    local node i pending deadline=$((SECONDS + READY_SECONDS))
    while :; do
        pending=()
        for ((i = 0; i < count; i++)); do
            node="node$i"
            ready "$node" && continue
            pid_of "$node" >/dev/null || die "$node ended: $(tail -n 1 "$dir/$node/node.log")"
            pending+=("$node")
        done
        [ "${#pending[@]}" -gt 0 ] || break
        [ "$SECONDS" -lt "$deadline" ] ||
            die "not ready after ${READY_SECONDS}s: ${pending[*]}; see their logs, such as $dir/${pending[0]}/node.log"
        printf '\rwaiting for %d of %d nodes ' "${#pending[@]}" "$count" >&2
        sleep 0.2
    done
    printf '\r%d nodes are ready          \n' "$count" >&2
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

stop_watching() {
    [ -n "$watcher" ] || return 0
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=""
}

# A second Ctrl-C must not leave nodes behind.
clean_up() {
    trap '' INT TERM
    stop_watching
    stop_nodes
}

# Submits the records while the stream of blocks shows each as it commits.
submit() {
    local status=0
    "$minidlt" watch --as "$dir/users/trader" &
    watcher=$!
    "$minidlt" submit --as "$dir/users/trader" --wait "$data" || status=$?
    # The last block's line may be a moment behind the answer.
    sleep 0.5
    stop_watching
    return "$status"
}

minidlt="" watcher=""
build
initialise
# Before the trap: what another run started is not this one's to stop.
for ((i = 0; i < count; i++)); do
    ! pid_of "node$i" >/dev/null || die "node$i is running already; stop it with: node/launch.sh stop --dir $dir"
done
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for ((i = 0; i < count; i++)); do
    start_node "node$i"
done
await_nodes
tell
status=0
if [ -n "$data" ]; then
    submit || status=$?
fi
if [ -n "$detach" ]; then
    trap - EXIT
    echo "left running; stop with: node/launch.sh stop --dir $dir"
    exit "$status"
fi
[ "$status" -eq 0 ] || say "not all records were committed (exit code $status); the nodes run on"
trap 'exit "$((status == 0 ? 130 : status))"' INT
echo "running; Ctrl-C stops all nodes"
while :; do
    for ((i = 0; i < count; i++)); do
        pid_of "node$i" >/dev/null || say "node$i has ended; see $dir/node$i/node.log"
    done
    sleep 5 &
    wait $!
done
