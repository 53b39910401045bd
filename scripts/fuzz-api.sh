#!/usr/bin/env bash
# Throws generated requests at a running server and holds its answers against the contract the
# server publishes.
#
#   scripts/fuzz-api.sh BASE_URL TOKEN [EXAMPLES]
#
# BASE_URL such as http://127.0.0.1:7433, TOKEN the owner's token, EXAMPLES per operation (default
# 20). Use a server made for this: sessions, keys and files are made and removed. Ends with a
# status other than 0 if an answer was a server error, had a status, media type or body that the
# contract does not list, or if the server is not alive afterwards.
set -euo pipefail

base=${1:?usage: fuzz-api.sh BASE_URL TOKEN [EXAMPLES]}
token=${2:?usage: fuzz-api.sh BASE_URL TOKEN [EXAMPLES]}
examples=${3:-20}
version=4.32.5

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.tools/schemathesis-$version
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

auth="Authorization: Bearer $token"
session=$(curl -sSf -X POST "$base/v1/sessions" -H "$auth" -H 'content-type: application/json' \
    -d '{"labels":{"made-by":"fuzz-api"}}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')

work=$(mktemp -d)
trap 'rm -rf "$work"; curl -sS -o /dev/null -X DELETE "$base/v1/sessions/$session" -H "$auth" || true' EXIT

# Generated names are of sessions that do not exist, so there are two runs: one as it comes, one
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
fuzz() {
    local config=$1
    shift
    # Left out: the contract itself, and the upload of archives, whose media type the tool cannot
    # make up bodies for.
    (cd "$work" && "$venv/bin/schemathesis" --config-file "$config" --no-color \
        run "$base/v1/openapi.json" --header "$auth" --phases examples,coverage,fuzzing \
        --max-examples "$examples" --request-timeout 60 --checks "$checks" --continue-on-failure \
        --exclude-operation-id get_openapi --exclude-operation-id upload_tar "$@")
}

failed=0
fuzz anywhere.toml || failed=1
# Left out as well: ending the session that the others work on.
fuzz inside.toml --include-path-regex '[{]session[}]' --exclude-operation-id delete_session \
    --exclude-operation-id original_delete_session || failed=1

curl -sSf -o /dev/null "$base/healthz"
exit "$failed"
