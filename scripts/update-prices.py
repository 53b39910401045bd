#!/usr/bin/env python3
"""Rewrites crates/server/prices/anthropic.json from the price list that litellm publishes.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip download --no-deps -d /tmp litellm
    unzip -p /tmp/litellm-*.whl litellm/model_prices_and_context_window_backup.json > /tmp/prices.json
    scripts/update-prices.py /tmp/prices.json <litellm's version>

Prices there are decimal dollars; here they are whole picodollars (10^-12 $), so that the
gateway's arithmetic is exact. A row that does not fit, or has a price this script does not know,
stops it: a price must not be lost in silence.
"""

import json
import re
import sys
from decimal import Decimal
from pathlib import Path

PICO = Decimal(10) ** 12
TARGET = Path(__file__).resolve().parent.parent / "crates/server/prices/anthropic.json"

FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
TIER = re.compile(r"_above_(\d+)k_tokens$")
# Agents do not use the batch API; search results of every size cost the same.
KNOWN_UNUSED = re.compile(r"_batches$|^search_context_cost_per_query$")


def whole(dollars, unit=PICO):
    amount = Decimal(dollars) * unit
    if amount != amount.to_integral_value():
        raise SystemExit(f"{dollars} is not a whole number of units")
    return int(amount)


def rates(row, suffix=""):
    return {ours: whole(row[theirs + suffix]) for ours, theirs in FIELDS.items()}


def model(name, row):
    tiers = {m.group(1) for key in row if (m := TIER.search(key))}
    if len(tiers) > 1:
        raise SystemExit(f"{name}: more than one tier")
    known = set(FIELDS.values())
    known |= {field + f"_above_{k}k_tokens" for field in FIELDS.values() for k in tiers}
    for key in row:
        if "cost" in key and key not in known and not KNOWN_UNUSED.search(key):
            raise SystemExit(f"{name}: unknown price {key}")
    entry = rates(row)
    for thousands in tiers:
        tier = rates(row, f"_above_{thousands}k_tokens")
        entry["long_context"] = {"above": int(thousands) * 1000, **tier}
    searches = set(row.get("search_context_cost_per_query", {}).values())
    if len(searches) > 1:
        raise SystemExit(f"{name}: searches of different prices")
    for search in searches:
        entry["web_search"] = whole(search)
    for feature, factor in row.get("provider_specific_entry", {}).items():
        if feature not in ("fast", "us"):
            raise SystemExit(f"{name}: unknown feature {feature}")
        entry[f"{feature}_permille"] = whole(factor, 1000)
    return entry


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, version = sys.argv[1:]
    table = json.loads(Path(source).read_text(), parse_float=Decimal)
    table = table.get("models", table)
    rows = {n: r for n, r in table.items() if r.get("litellm_provider") == "anthropic"}
    result = {
        "version": f"litellm-{version}",
        "source": "model_prices_and_context_window_backup.json of litellm, rows of anthropic",
        "licence": "MIT, Copyright (c) 2023 Berri AI",
        "unit": "picodollars per token, or per web search; factors in thousandths",
        "models": {name: model(name, rows[name]) for name in sorted(rows)},
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{TARGET}: {len(rows)} models", file=sys.stderr)


if __name__ == "__main__":
    main()
