#!/usr/bin/env bash
# The gateway's peer: LiteLLM's proxy in front of the same emulator, asked by the same client as the
# emulator alone. Prints requests per second and latency. Installs LiteLLM from PyPI into .tools on
# the first run; where that cannot be done, says so and succeeds.
set -euo pipefail
cd "$(dirname "$0")/.."
rclaude=${RCLAUDE_BIN:-target/release/rclaude}
skip() {
    echo "LiteLLM: not measured: $1"
    exit 0
}

command -v wrk >/dev/null || skip "wrk is not installed"
[ -x "$rclaude" ] || skip "no release build of rclaude"
venv=.tools/litellm
if [ ! -x $venv/bin/litellm ]; then
    python3 -m venv $venv >/dev/null 2>&1 || skip "python3 cannot make virtual environments"
    timeout 600 $venv/bin/pip install -q 'litellm[proxy]' >/dev/null 2>&1 ||
        skip "it could not be installed from PyPI"
fi

dir=$(mktemp -d)
pids=()
end() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT
model=127.0.0.1:17081
proxy=127.0.0.1:17082

# It refuses to start without a key of its own that is hard to guess.
key=sk-$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')

"$rclaude" emulator --listen $model >/dev/null 2>&1 &
pids+=($!)
cat >"$dir/config.yaml" <<EOF
model_list:
  - model_name: claude-opus-5-5
    litellm_params: {model: anthropic/claude-opus-5-5, api_base: "http://$model", api_key: bench}
general_settings: {master_key: "$key"}
EOF
$venv/bin/litellm --config "$dir/config.yaml" --host 127.0.0.1 --port 17082 >"$dir/log" 2>&1 &
pids+=($!)
cat >"$dir/ask.lua" <<EOF
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer $key"
wrk.body = '{"model":"claude-opus-5-5","max_tokens":1000,"messages":[{"role":"user","content":"Hello"}]}'
EOF
for _ in $(seq 120); do
    if curl -sf -o /dev/null "http://$proxy/health/liveliness"; then break; fi
    sleep 0.5
done
curl -sf -o /dev/null "http://$proxy/health/liveliness" || skip "it does not start here"

for where in "the emulator alone:$model" "LiteLLM before it:$proxy"; do
    for connections in 1 16; do
        wrk -t1 "-c$connections" -d5s --latency -s "$dir/ask.lua" "http://${where#*:}/v1/messages" |
            awk -v what="${where%%:*}, $connections connection(s)" '
                /50%/ { p50 = $2 } /99%/ { p99 = $2 } /Requests\/sec/ { rate = $2 }
                /Non-2xx/ { bad = " (" $NF " refused)" }
                END { printf "%-40s %10s /s   p50 %s, p99 %s%s\n", what, rate, p50, p99, bad }'
    done
done
