#!/usr/bin/env bash
# Measures what exists, each figure beside a peer or the physical limit in the same run. Figures of
# record are in bench/RESULTS.md.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build run test bench

cargo build --release -p rclaude
export RCLAUDE_TEST_DATA="${RCLAUDE_TEST_DATA:-$PWD/.tools/data}"
target/release/rclaude --data-dir "$RCLAUDE_TEST_DATA" init --quiet

echo "== sandboxes: create to daemon answering, beside the limit and other engines"
cargo bench -q -p rclaude-sandbox
echo "== store: durable appends and reads"
cargo bench -q -p rclaude-store
echo "== gateway: added latency and throughput"
cargo bench -q -p rclaude-server
[ ! -x bench/gateway_litellm.sh ] || bench/gateway_litellm.sh
echo "== the whole platform, from outside"
python3 bench/platform.py
