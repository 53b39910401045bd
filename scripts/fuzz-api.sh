#!/usr/bin/env bash
# Throws generated requests at a server and holds its answers against the contract it publishes:
# no answer may be a mistake of the server's, nor have a status, media type or body that the
# contract does not list.
#
#   scripts/fuzz-api.sh                     a server of its own, made for this and removed again
#   scripts/fuzz-api.sh BASE_URL TOKEN      one that runs; sessions and files are made in it
#
# EXAMPLES in the environment: requests generated per operation in each of two rounds, 20 unless set.
# SEED: what they are generated from, the same each time unless set, so that a change is judged by
# itself; `SEED=$RANDOM` looks further.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
version=4.32.5
tool=$root/.tools/schemathesis-$version/bin/schemathesis
work=$(mktemp -d)
base=${1:-} token=${2:-} server=

if [ ! -x "$tool" ]; then
    python3 -m venv "${tool%/bin/*}"
    "${tool%/bin/*}/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

json() { # json EXPRESSION: evaluated with the JSON on standard input as `it`
    python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"
}

call() { # call METHOD PATH [CURL ARGUMENTS]
    local method=$1 path=$2
    shift 2
    curl --silent --show-error --fail --request "$method" --header "authorization: Bearer $token" \
        "$@" "$base$path"
}

stop() {
    set +e
    if [ -n "$server" ]; then
        while ids=$(call GET '/v1/sessions?limit=200' | json '" ".join(s["id"] for s in it["data"])') &&
            [ -n "$ids" ]; do
            for id in $ids; do call DELETE "/v1/sessions/$id"; done
        done
        for _ in $(seq 300); do
            [ -z "$(ls "$work/data/engine/sandboxes" 2>/dev/null)" ] && break
            sleep 0.2
        done
        kill "$server"
        wait "$server"
        for process in /proc/[0-9]*; do
            case $({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null) in
            *"__supervisor --dir $work/"*) kill "${process#/proc/}" ;;
            esac
        done
    fi
    rm -rf "$work"
}
trap stop EXIT

if [ -z "$base" ]; then
    # An agent that listens and never answers: prompts are taken, and cost nothing.
    release=$(sed -n 's/.*[{,] version: "\([0-9.]*\)".*/\1/p' "$root/crates/server/src/agent/install.rs")
    agent=$work/data/agents/claude-code/$release/claude
    mkdir -p "${agent%/*}"
    printf '#!/bin/sh\nexec cat >/dev/null\n' >"$agent"
    chmod +x "$agent"
    "$root/target/debug/rclaude" --data-dir "$work/data" serve --emulator --listen 127.0.0.1:0 \
        >/dev/null 2>"$work/log" &
    server=$!
    for _ in $(seq 100); do
        [ -s "$work/data/server.json" ] && break
        sleep 0.1
    done
    base=$(json 'it["url"].rstrip("/")' <"$work/data/server.json") || { cat "$work/log" && exit 1; }
    token=$(cat "$work/data/token")
fi

session=$(call POST /v1/sessions --json '{"labels": {"made-by": "fuzz-api"}}' | json 'it["id"]')

# Generated names are of sessions that do not exist, so there are two rounds: one as it comes, one
# with every path leading to a session that does. Neither waits for what may never come. What a
# server lacks (an agent, a model API, room) is a 503 or 507 of the contract, not a mistake.
cat >"$work/anywhere.toml" <<'TOML'
[parameters]
wait = 0
follow = false

[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 503, 507]
TOML
sed "s/^follow.*/&\nsession = \"$session\"/" "$work/anywhere.toml" >"$work/inside.toml"

checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
failed=0
fuzz() {
    local config=$1
    shift
    # Left out: the contract itself; the uploads of archives, whose media types the tool cannot make
    # up bodies for; and answers that last: until an agent's turn ends, which this one's never does,
    # and for as long as somebody watches files.
    (cd "$work" && "$tool" --config-file "$config" --no-color run "$base/v1/openapi.json" \
        --header "authorization: Bearer $token" --phases examples,coverage,fuzzing \
        --max-examples "${EXAMPLES:-20}" --seed "${SEED:-1}" --request-timeout 60 --checks "$checks" \
        --continue-on-failure --warnings off --exclude-operation-id get_openapi \
        --exclude-operation-id upload_tar --exclude-operation-id import_session \
        --exclude-operation-id original_chat --exclude-operation-id watch_files "$@") || failed=1
}
fuzz anywhere.toml
# Left out as well: ending the session that the others work on.
fuzz inside.toml --include-path-regex '[{]session[}]' --exclude-operation-id delete_session \
    --exclude-operation-id original_delete_session

curl --silent --show-error --fail --output /dev/null "$base/healthz"
if [ "$failed" != 0 ] && [ -s "$work/log" ]; then
    grep -a ' ERROR ' "$work/log" >&2 || true
fi
exit "$failed"
