#!/usr/bin/env bash
# Every check of the project, in the order of what they cost. Says what it does; ends at the first
# that fails.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
# shellcheck source=node/setup.sh
. "$root/node/setup.sh"

step() {
    say ""
    say "== $1"
    shift
    "$@"
}

shell_scripts() {
    find . -path ./target -prune -o -name '*.sh' -print0
    printf './.ci/run\0'
}

check_shell() { shell_scripts | xargs -0 shellcheck --external-sources; }

test_tools() {
    local tools=()
    command -v shellcheck >/dev/null || tools+=(shellcheck)
    # Namespaces with links between them, and clocks that jump: what integration/tests/faults needs.
    command -v ip >/dev/null || tools+=(iproute2)
    command -v faketime >/dev/null || tools+=(faketime)
    python3 -c 'import ensurepip' 2>/dev/null || tools+=(python3-venv)
    [ "${#tools[@]}" -eq 0 ] || install_packages "${tools[@]}"
    ensure_build_tools
    # A toolchain may come without them.
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
        rustup component add rustfmt clippy ||
        die "cargo fmt and cargo clippy are needed; run: rustup component add rustfmt clippy"
}

# A websocket client that is not ours, for the test that reads the stream with one.
foreign_client() {
    local environment="${XDG_CACHE_HOME:-$HOME/.cache}/minidlt/python"
    export TEST_PYTHON="$environment/bin/python"
    "$TEST_PYTHON" -c 'import websockets' 2>/dev/null && return
    python3 -m venv "$environment"
    "$TEST_PYTHON" -m pip install --quiet --disable-pip-version-check 'websockets==15.0.1'
}

step "tools" test_tools
step "python's websockets, for one test" foreign_client
step "shell scripts: shellcheck" check_shell
step "formatting: cargo fmt" cargo fmt --all --check
step "lints and bans (.clippy.toml): cargo clippy" \
    cargo clippy --release --locked --workspace --all-targets -- -D warnings
# The tests of whole networks run the program itself, built as node/launch.sh builds it: with all
# crates at once some dependencies have other features, and the test of the script would compile anew.
step "the program: cargo build" cargo build --release --locked -p minidlt
step "tests: cargo test" cargo test --release --locked --workspace
say ""
say "all checks passed"
