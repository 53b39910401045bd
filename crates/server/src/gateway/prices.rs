//! What tokens cost.
//!
//! The table is in the program (`crates/server/prices/`, refreshed by
//! `scripts/update-prices.py`), in whole picodollars, so the arithmetic is exact. A request's
//! cost is summed in picodollars and rounded once, half up, to a millionth of a dollar. A model
//! the table does not know costs the dearest price of each kind: a bill may be too high for a
//! day, never silently zero.

use std::{collections::BTreeMap, sync::LazyLock};

use rclaude_types::{MicroUsd, TokenUsage};
use serde::Deserialize;

/// What is to be priced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consumption {
    /// The tokens.
    pub tokens: TokenUsage,
    /// Web searches the API ran; they cost apiece. Its other tools cost only their tokens.
    pub web_searches: i64,
    /// Answered in fast mode.
    pub fast: bool,
    /// Inference was confined to the United States.
    pub in_us: bool,
}

/// What it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// The cost.
    pub cost: MicroUsd,
    /// A price was not known, and the dearest known was taken.
    pub estimated: bool,
}

/// Prices one request: its parts, each with the model that answered it.
pub fn price<'a>(parts: impl IntoIterator<Item = (&'a str, &'a Consumption)>) -> Price {
    let mut picos = 0_i128;
    let mut estimated = false;
    for (model, used) in parts {
        let known = TABLE.find(model);
        estimated |= known.is_none() && *used != Consumption::default();
        let model = known.unwrap_or(&TABLE.dearest);
        estimated |= used.web_searches > 0 && model.web_search.is_none();
        picos += model.picos(used, &TABLE.dearest);
    }
    let micros = (picos + PICOS_PER_MICRO / 2).div_euclid(PICOS_PER_MICRO);
    Price { cost: MicroUsd(i64::try_from(micros).unwrap_or(i64::MAX)), estimated }
}

/// The table's version.
pub fn price_version() -> &'static str {
    &TABLE.version
}

const PICOS_PER_MICRO: i128 = 1_000_000;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let text = include_str!("../../prices/anthropic.json");
    let mut table: Table =
        serde_json::from_str(text).expect("the embedded table is read by a test of this module");
    table.dearest = table.models.values().fold(ModelPrices::default(), ModelPrices::or_dearer);
    table
});

#[derive(Debug, Deserialize)]
struct Table {
    version: String,
    models: BTreeMap<String, ModelPrices>,
    /// The dearest price of each kind.
    #[serde(skip)]
    dearest: ModelPrices,
}

#[derive(Debug, Default, Deserialize)]
struct ModelPrices {
    #[serde(flatten)]
    rates: Rates,
    /// For all tokens of a request whose input, cached or not, is larger.
    long_context: Option<LongContext>,
    web_search: Option<i64>,
    /// Factor in fast mode.
    fast_permille: Option<i64>,
    /// Factor for inference in the United States.
    us_permille: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct LongContext {
    above: i64,
    #[serde(flatten)]
    rates: Rates,
}

/// Picodollars per token.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Rates {
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write_5m: i64,
    cache_write_1h: i64,
}

impl Table {
    /// The model's row; dated ids (`…-20251001`), `…-latest` and `…[1m]` share their alias's.
    fn find(&self, model: &str) -> Option<&ModelPrices> {
        let alias = model.split_once('[').map_or(model, |(alias, _)| alias);
        let undated = || {
            let (alias, date) = alias.rsplit_once('-')?;
            let dated = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
            self.models.get(alias).filter(|_| dated || date == "latest")
        };
        self.models.get(alias).or_else(undated)
    }
}

impl ModelPrices {
    fn picos(&self, used: &Consumption, dearest: &Self) -> i128 {
        let tokens = &used.tokens;
        let writes = i128::from(tokens.cache_write_5m) + i128::from(tokens.cache_write_1h);
        let read = i128::from(tokens.input) + i128::from(tokens.cache_read) + writes;
        let rates = match &self.long_context {
            Some(tier) if read > i128::from(tier.above) => &tier.rates,
            _ => &self.rates,
        };
        let cost = |count: i64, rate: i64| i128::from(count) * i128::from(rate);
        let mut picos = cost(tokens.input, rates.input)
            + cost(tokens.output, rates.output)
            + cost(tokens.cache_read, rates.cache_read)
            + cost(tokens.cache_write_5m, rates.cache_write_5m)
            + cost(tokens.cache_write_1h, rates.cache_write_1h);
        let factors = [(used.fast, self.fast_permille), (used.in_us, self.us_permille)];
        for (_, permille) in factors.into_iter().filter(|(applies, _)| *applies) {
            picos = picos * i128::from(permille.unwrap_or(1000)) / 1000;
        }
        picos + cost(used.web_searches, self.web_search.or(dearest.web_search).unwrap_or(0))
    }

    /// Field by field the dearer of two, long contexts included.
    fn or_dearer(self, other: &Self) -> Self {
        let rates = self.rates.or_dearer(&other.rates);
        Self {
            rates: other.long_context.as_ref().map_or(rates, |tier| rates.or_dearer(&tier.rates)),
            long_context: None,
            web_search: self.web_search.max(other.web_search),
            fast_permille: self.fast_permille.max(other.fast_permille),
            us_permille: self.us_permille.max(other.us_permille),
        }
    }
}

impl Rates {
    fn or_dearer(&self, other: &Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: i64, output: i64) -> Consumption {
        Consumption {
            tokens: TokenUsage { input, output, ..TokenUsage::default() },
            ..Consumption::default()
        }
    }

    fn micros(model: &str, used: &Consumption) -> i64 {
        price([(model, used)]).cost.0
    }

    #[test]
    fn the_whole_table_is_as_it_was_published() {
        let million = |pick: fn(&mut TokenUsage) -> &mut i64, name: &str| {
            let mut used = Consumption::default();
            *pick(&mut used.tokens) = 10_000;
            micros(name, &used) * 100
        };
        let rows: Vec<String> = TABLE
            .models
            .keys()
            .map(|name| {
                let per_million = [
                    million(|t| &mut t.input, name),
                    million(|t| &mut t.output, name),
                    million(|t| &mut t.cache_read, name),
                    million(|t| &mut t.cache_write_5m, name),
                    million(|t| &mut t.cache_write_1h, name),
                ];
                format!("{name}: {}", per_million.map(|micros| micros.to_string()).join(" "))
            })
            .collect();
        let head =
            "micro-dollars per million tokens: input, output, cache read, write 5m, write 1h";
        insta::assert_snapshot!(format!("{}\n{head}\n{}", price_version(), rows.join("\n")));
    }

    #[test]
    fn every_kind_of_token_has_its_own_price() {
        let used = Consumption {
            tokens: TokenUsage {
                input: 11,
                output: 25,
                cache_read: 1000,
                cache_write_5m: 60,
                cache_write_1h: 40,
                server_tool_requests: 0,
            },
            ..Consumption::default()
        };
        // 11 × 3 + 25 × 15 + 1000 × 0.3 + 60 × 3.75 + 40 × 6 millionths.
        assert_eq!(micros("claude-sonnet-4-5", &used), 1173);
    }

    #[test]
    fn a_request_is_rounded_once_and_half_up() {
        let haiku = "claude-haiku-5-5"; // 0.1 of a millionth per token of input
        assert_eq!([4, 5, 14, 15].map(|n| micros(haiku, &tokens(n, 0))), [0, 1, 1, 2]);
        let part = tokens(3, 0);
        assert_eq!(price([(haiku, &part), (haiku, &part)]).cost, MicroUsd(1));
    }

    #[test]
    fn a_long_context_costs_more_for_all_its_tokens() {
        let long = |input| {
            let mut used = tokens(input, 1_000);
            used.tokens.cache_read = 60_000;
            micros("claude-haiku-5-5", &used)
        };
        assert_eq!(long(40_000), 4_000 + 600 + 500);
        assert_eq!(long(40_001), 20_001 + 3_000 + 2_500);
    }

    #[test]
    fn searches_fast_mode_and_confinement_are_charged() {
        let mut used = tokens(1_000, 0);
        assert_eq!(micros("claude-opus-5", &used), 5_000);
        used.fast = true;
        assert_eq!(micros("claude-opus-5", &used), 10_000);
        used.in_us = true;
        assert_eq!(micros("claude-opus-5-5", &used), 8_800);
        used.web_searches = 2;
        assert_eq!(micros("claude-opus-5-5", &used), 28_800);
    }

    #[test]
    fn a_dated_model_costs_what_its_alias_costs() {
        let used = tokens(1_000, 1_000);
        for name in
            ["claude-sonnet-5-5-20260901", "claude-sonnet-5-5-latest", "claude-sonnet-5-5[1m]"]
        {
            let expected = Price { cost: MicroUsd(12_000), estimated: false };
            assert_eq!(price([(name, &used)]), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_model_costs_the_dearest_and_says_so() {
        let used = tokens(1_000, 1_000);
        for name in ["claude-next-9", "", "claude-sonnet-5-5-beta"] {
            let expected = Price { cost: MicroUsd(60_000), estimated: true };
            assert_eq!(price([(name, &used)]), expected, "{name}");
        }
        let nothing = Price { cost: MicroUsd(0), estimated: false };
        assert_eq!(price([("claude-next-9", &Consumption::default())]), nothing);
    }

    #[test]
    fn an_absurd_amount_does_not_wrap_round() {
        let price = price([("claude-opus-5", &tokens(i64::MAX, i64::MAX))]);
        assert_eq!(price.cost, MicroUsd(i64::MAX));
    }
}
