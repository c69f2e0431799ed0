#!/usr/bin/env bash
# Fuzzes every decoder of what others send, for so many seconds each (60), and prints what it came to.
# What was found worth keeping grows beside the build; an input that breaks a promise is kept in
# integration/fuzz/artifacts, and makes this end with 1.
#
#   integration/fuzz.sh [SECONDS] [TARGET…]
#   integration/fuzz.sh --keep [TARGET…]    takes over into integration/fuzz/corpus what reaches
#                                           more of the code than what is kept there, at its smallest
set -euo pipefail

integration="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=node/setup.sh
. "$integration/../node/setup.sh"

# Longer than any input that says something; the decoders' bounds have tests of their own.
MAX_INPUT_BYTES=16384
# A single input may not take longer, or more memory in all.
MAX_SECONDS=10
MAX_MEMORY_MIB=1024
# Inputs larger than this are not kept, nor more than so many a target.
MAX_KEPT_BYTES=8192
MAX_KEPT_FILES=32

# Coverage counters and comparisons, as libFuzzer reads them; a stable compiler has them, too.
FLAGS=(
    -Cpasses=sancov-module -Ccodegen-units=1
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    --cfg fuzzing
)

keep=false
seconds=60
case "${1:-}" in
    --keep) keep=true; shift ;;
    [0-9]*) seconds="$1"; shift ;;
esac
if [ "$#" -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' "$integration/fuzz/Cargo.toml" | tail -n +2)
fi

# A target triple, so that build scripts and macros are built without the flags.
triple="$(rustc -vV | sed -n 's/^host: //p')"
built="$CARGO_TARGET_DIR/fuzz"
work="$built/work"

build() {
    say "building the targets"
    (cd "$integration/fuzz" &&
        CARGO_TARGET_DIR="$built" RUSTFLAGS="${FLAGS[*]}" cargo build --quiet --release --target "$triple")
}

write_seeds() {
    mkdir -p "$work/seeds"
    (cd "$integration/.." && TEST_FUZZ_SEEDS="$work/seeds" cargo test --quiet --release --locked \
        -p minidlt-integration --test fuzz_corpus seeds >/dev/null)
}

program() { printf '%s' "$built/$triple/release/$1"; }

# fuzz TARGET: a line of the table. What libFuzzer said is in its log.
fuzz() {
    local target="$1" log="$work/$1.log" crashes edges
    mkdir -p "$work/corpus/$target" "$integration/fuzz/corpus/$target" "$integration/fuzz/artifacts/$target"
    "$(program "$target")" -max_total_time="$seconds" -max_len="$MAX_INPUT_BYTES" -timeout="$MAX_SECONDS" \
        -rss_limit_mb="$MAX_MEMORY_MIB" -print_final_stats=1 -artifact_prefix="$integration/fuzz/artifacts/$target/" \
        "$work/corpus/$target" "$integration/fuzz/corpus/$target" "$work/seeds/$target" >"$log" 2>&1 || true
    crashes="$(grep -c '^Test unit written to' "$log" || true)"
    edges="$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2)"
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf '%-12s %12s %8s %8s %8s %8s\n' "$target" "$(stat number_of_executed_units)" "${edges:-0}" \
        "$(find "$work/corpus/$target" -type f | wc -l)" "$(stat peak_rss_mb)" "$crashes"
    [ "$crashes" -eq 0 ] || failed=1
}

# keep_best TARGET: what reaches most with least, into the kept corpus. libFuzzer writes first what
# adds most.
keep_best() {
    local target="$1" merged="$work/merged/$1" kept="$integration/fuzz/corpus/$1"
    rm -rf "$merged"
    mkdir -p "$merged" "$kept" "$work/corpus/$target"
    "$(program "$target")" -set_cover_merge=1 -max_len="$MAX_KEPT_BYTES" "$merged" "$kept" "$work/corpus/$target" \
        >"$work/$target.merge.log" 2>&1
    find "$kept" -type f -delete
    find "$merged" -type f -printf '%C@ %p\n' | sort -n | sed -n "1,${MAX_KEPT_FILES}p" | cut -d' ' -f2- |
        xargs -r cp -t "$kept"
    printf '%-12s %s inputs, %s bytes\n' "$target" "$(find "$kept" -type f | wc -l)" \
        "$(find "$kept" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
}

build
write_seeds
failed=0
if "$keep"; then
    for target in "${targets[@]}"; do keep_best "$target"; done
else
    printf '%-12s %12s %8s %8s %8s %8s\n' target executions edges corpus MiB crashes
    for target in "${targets[@]}"; do fuzz "$target"; done
fi
exit "$failed"
