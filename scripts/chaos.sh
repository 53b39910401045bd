#!/usr/bin/env bash
# Users who do this and that with real servers and real sandboxes, and a host on which everything
# goes wrong, for as long as is wanted: random runs, each held against a model of what must be
# true. Prints what it came to; fails with the seed of every run that was not as it must be.
#
#   CHAOS_MINUTES=60   how long
#   CHAOS_JOBS=2       how many runs at a time; each keeps about one processor busy
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh build run test chaos

echo "== build"
cargo build -p rclaude --tests

echo "== agent"
export RCLAUDE_TEST_DATA="${RCLAUDE_TEST_DATA:-$PWD/.tools/data}"
"${CARGO_TARGET_DIR:-target}/debug/rclaude" --data-dir "$RCLAUDE_TEST_DATA" init --quiet

echo "== chaos, for ${CHAOS_MINUTES:-60} minutes"
cargo test -p rclaude --test it -- --ignored --exact --nocapture \
    chaos::runs_for_as_long_as_was_asked_lose_nothing_and_leave_nothing
