#!/usr/bin/env bash
# Sets up and passes every test: unit and integration tests of every crate (real sandboxes, the
# real Claude Code binary against the scripted model API), the API fuzzed from its own contract,
# and a look for anything left behind.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh build run test

echo "== build"
cargo build --workspace --all-targets

echo "== agent"
export RCLAUDE_TEST_DATA="$PWD/.tools/data"
target/debug/rclaude --data-dir "$RCLAUDE_TEST_DATA" init --quiet

# What a server of the user's own runs on this host is not the tests' doing.
before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
scripts/leak-check.sh --all | sort >"$before" || true

echo "== tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast
else
    cargo test --workspace --no-fail-fast
fi
cargo test --workspace --doc --quiet

echo "== the API, fuzzed from its contract"
scripts/fuzz-api.sh

echo "== nothing left behind"
scripts/leak-check.sh --all | sort >"$after" || true
if left=$(comm -13 "$before" "$after") && [ -n "$left" ]; then
    echo "$left"
    exit 1
fi
echo "no process, no loop device, no cgroup"
if [ "$(id -u)" != 0 ] || [ ! -e /dev/loop-control ]; then
    echo "CHECKED LESS: checkpoints on xfs and btrfs need root and loop devices"
fi
