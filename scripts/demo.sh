#!/usr/bin/env bash
# The main job, before your eyes: sets everything up, starts a server, gives a real repository with
# a failing test to the real Claude Code in a sandbox, and shows what came of it. With
# ANTHROPIC_API_KEY set the model is Anthropic's; without, a scripted stand-in answers.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build run

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

data="$PWD/.rclaude/demo"
repository="$PWD/.rclaude/calculator"
rclaude="$PWD/target/release/rclaude"
export RCLAUDE_DATA_DIR="$data"
mkdir -p "$data"

say "Building (minutes the first time, seconds after)"
cargo build --release -p rclaude --quiet

say "Installing Claude Code from its publisher's package, if it is not there yet"
"$rclaude" init --quiet

if [ -n "${ANTHROPIC_API_KEY:-}" ]; then
    say "ANTHROPIC_API_KEY is set: the model is Anthropic's, and this costs a few cents"
    model=()
else
    say "ANTHROPIC_API_KEY is not set: a scripted stand-in plays the model; all else is real"
    model=(--emulator)
fi

# A server left by an earlier run is replaced: it may be an older build, or have another model.
if "$rclaude" status >/dev/null 2>&1; then
    old=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["pid"])' "$data/server.json")
    kill "$old"
    while kill -0 "$old" 2>/dev/null; do sleep 0.05; done
fi

say "\$ rclaude serve ${model[*]}"
setsid "$rclaude" serve --listen 127.0.0.1:0 "${model[@]}" >"$data/server.log" 2>&1 </dev/null &
server=$!
for _ in $(seq 200); do
    "$rclaude" status >/dev/null 2>&1 && break
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$data/server.log" >&2
        exit 1
    fi
    sleep 0.05
done
head -3 "$data/server.log"

rm -rf "$repository"
"$rclaude" emulator --write-demo "$repository"
say "A repository with a failing test: $repository"
(cd "$repository" && git log --oneline && python3 -m unittest 2>&1 | tail -4) || true

say "\$ rclaude run --repo $repository --permission-mode bypassPermissions \"fix the failing test\""
session="demo-$(date +%H%M%S)"
"$rclaude" run --name "$session" --repo "$repository" --permission-mode bypassPermissions \
    "fix the failing test"

say "\$ rclaude diff $session"
"$rclaude" diff "$session"

say "\$ rclaude exec $session -- python3 -m unittest"
"$rclaude" exec "$session" -- python3 -m unittest

say "What to type next"
cat <<EOF
  export RCLAUDE_DATA_DIR=$data PATH=$PWD/target/release:\$PATH
  rclaude send $session "now add a test for negative numbers"
  rclaude logs $session            what happened, from the first entry
  rclaude show $session            what it cost
  rclaude ls                       every session
  rclaude stop $session            ends its processes, keeps everything else
  kill $server                     stops the server; sessions go on when it returns
EOF
