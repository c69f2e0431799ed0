#!/usr/bin/env bash
# The long run: all that the tests of faults do in an ordinary run, more often and for longer, and a
# table of what it found. Takes some hours; each number can be set by its variable.
#
#   integration/faults.sh [processes] [simulation] [fuzzing]     all three, unless named
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
# shellcheck source=node/setup.sh
. "$root/node/setup.sh"

parts=(processes simulation fuzzing)
for part in "$@"; do
    [[ " ${parts[*]} " == *" $part "* ]] || die "what is $part? integration/faults.sh [processes] [simulation] [fuzzing]"
done
[ "$#" -eq 0 ] || parts=("$@")

# SIGKILLs in each mode; partitions of each kind; seconds that the longest cuts and pauses last, and
# that the storm lasts; transactions on the ledger of the node that loses it; seeds of the simulation;
# seconds of fuzzing for each target.
export TEST_SPEED_TARGETS="${TEST_SPEED_TARGETS:-1}"
export TEST_SIGKILLS="${TEST_SIGKILLS:-200}"
export TEST_PARTITIONS="${TEST_PARTITIONS:-5}"
export TEST_CUT_SECONDS="${TEST_CUT_SECONDS:-120}"
export TEST_PAUSE_SECONDS="${TEST_PAUSE_SECONDS:-120}"
export TEST_STORM_SECONDS="${TEST_STORM_SECONDS:-600}"
export TEST_LOST_TRANSACTIONS="${TEST_LOST_TRANSACTIONS:-100000}"
TEST_SIMULATED_SEEDS="${TEST_SIMULATED_SEEDS:-100000}"
TEST_FUZZ_SECONDS="${TEST_FUZZ_SECONDS:-300}"
# The tests add their figures to this file, a name and a number a line.
TEST_FIGURES="$(mktemp)"
export TEST_FIGURES
trap 'rm -f "$TEST_FIGURES"' EXIT

failed=()

# step NAME COMMAND…: goes on where it fails, so that the table shows all that was found.
step() {
    local name="$1"
    shift
    say ""
    say "== $name: $*"
    "$@" || failed+=("$name")
}

simulate() {
    MINIDLT_SEEDS="$TEST_SIMULATED_SEEDS" cargo test --release --locked -p minidlt-protocol --test simulation &&
        echo "simulated_seeds $TEST_SIMULATED_SEEDS" >>"$TEST_FIGURES"
}

fuzz() {
    local said status=0
    said="$("$root/integration/fuzz.sh" "$TEST_FUZZ_SECONDS")" || status=1
    printf '%s\n' "$said"
    # Its table: the target, how many inputs, …, how many broke a promise.
    awk 'NR > 1 { print "fuzz_executions", $2; print "fuzz_crashes", $NF }' <<<"$said" >>"$TEST_FIGURES"
    return "$status"
}

# The numbers of this name; none is a zero.
numbers() { awk -v name="$1" '$1 == name { print $2 }' "$TEST_FIGURES" | sort -n; }
sum() { numbers "$1" | awk '{ sum += $1 } END { print sum + 0 }'; }
median() { numbers "$1" | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : "none" }'; }
most() { numbers "$1" | awk '{ most = $1 } END { print NR ? most : "none" }'; }
ratio() { awk -v of="$(sum "$1")" -v to="$(sum "$2")" 'BEGIN { if (to > 0) printf "%.1f\n", of / to; else print "none" }'; }

row() { printf '| %s | %s |\n' "$1" "$2"; }

# One a part of the run.
processes() {
    step "the program" cargo build --release --locked -p minidlt
    step "real processes" cargo test --release --locked -p minidlt-integration --test faults
}

processes_rows() {
    row "SIGKILLs survived" "$(sum sigkills)"
    row "partitions healed" "$(sum partitions)"
    row "acknowledged transactions checked, on every node" "$(sum acknowledged_checked)"
    row "lost" "$(sum lost)"
    row "duplicated" "$(sum duplicated)"
    row "forks" "$(sum forks)"
    row "blocks compared" "$(sum blocks_compared)"
    row "packets cut / refused" "$(sum packets_cut) / $(sum packets_refused)"
    row "packets lost / repeated / delayed" "$(sum packets_lost) / $(sum packets_repeated) / $(sum packets_delayed)"
    row "processes paused" "$(sum pauses)"
    row "clocks that jumped by an hour" "$(sum clock_jumps)"
    row "connections of strangers that used up descriptors" "$(sum connections_of_strangers)"
    row "nodes wiped / restored from a backup" "$(sum wiped) / $(sum backups_restored)"
    row "from healing to the first commit on a node, p50 / max" "$(median healed_ms) ms / $(most healed_ms) ms"
    row "from SIGCONT" "$(median resumed_ms) ms / $(most resumed_ms) ms"
    row "from a clock put right" "$(median clock_righted_ms) ms / $(most clock_righted_ms) ms"
    row "catching up beside an ordinary load, transactions/s" "$(sum catch_up_per_s)"
    row "the cluster's commit rate, as fast as it goes, transactions/s" "$(sum filled_per_s)"
    row "times as fast" "$(ratio catch_up_per_s filled_per_s)"
    row "catching up beside others that commit as fast as they can, transactions/s" "$(sum catch_up_beside_full_load_per_s)"
    row "what those committed meanwhile, transactions/s" "$(sum full_load_meanwhile_per_s)"
}

simulation() { step "simulation" simulate; }
simulation_rows() { row "simulated seeds" "$(sum simulated_seeds)"; }

fuzzing() { step "fuzzing" fuzz; }
fuzzing_rows() { row "fuzz executions / that broke a promise" "$(sum fuzz_executions) / $(sum fuzz_crashes)"; }

ensure_build_tools
for part in "${parts[@]}"; do "$part"; done
say ""
row "what" "figure"
row "---" "---:"
for part in "${parts[@]}"; do "${part}_rows"; done
[ "${#failed[@]}" -eq 0 ] || die "failed: ${failed[*]}"
