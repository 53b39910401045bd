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
fuzzed=$(mktemp -d)
ln -s "$RCLAUDE_TEST_DATA/agents" "$fuzzed/agents"
target/debug/rclaude --data-dir "$fuzzed" serve --emulator --listen 127.0.0.1:0 >"$fuzzed/log" 2>&1 &
server=$!
cleanup() {
    target/debug/rclaude --data-dir "$fuzzed" ls --json 2>/dev/null |
        python3 -c 'import json,sys; [print(json.loads(l)["id"]) for l in sys.stdin]' |
        xargs -r target/debug/rclaude --data-dir "$fuzzed" rm --force 2>/dev/null || true
    for _ in $(seq 100); do
        [ -n "$(ls -A "$fuzzed/engine/sandboxes" 2>/dev/null)" ] || break
        sleep 0.1
    done
    kill "$server" 2>/dev/null && wait "$server" || true
    pkill -f "__supervisor --dir $fuzzed/" || true
    rm -rf "$fuzzed"
}
trap cleanup EXIT
for _ in $(seq 200); do
    [ ! -e "$fuzzed/server.json" ] || break
    sleep 0.05
done
url=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["url"].rstrip("/"))' "$fuzzed/server.json")
scripts/fuzz-api.sh "$url" "$(cat "$fuzzed/token")"
trap 'rm -f "$before" "$after"' EXIT
cleanup

echo "== nothing left behind"
scripts/leak-check.sh --all | sort >"$after" || true
if left=$(comm -13 "$before" "$after") && [ -n "$left" ]; then
    echo "$left"
    exit 1
fi
echo "no process, no cgroup"
