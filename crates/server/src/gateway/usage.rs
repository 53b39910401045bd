//! The API's `usage` objects, put together to what a request used.
//!
//! A stream says it twice: the input side at its start, and running totals at its end. Totals
//! never fall, so the larger of the two figures counts for each field. The split of cache writes
//! by lifetime is said only at the start; what was written later belongs to the kind of writes
//! the request asked for. Fields that are missing, null or of another type count as not said.

use rclaude_types::TokenUsage;
use serde_json::Value;

use super::prices::Consumption;

/// What was said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    cache_write_5m: i64,
    cache_write_1h: i64,
    web_searches: i64,
    other_tools: i64,
    fast: bool,
    in_us: bool,
    /// Requests the API made inside this one and does not count in its totals.
    inner: Vec<(Option<String>, Consumption)>,
}

impl Tally {
    /// Takes in one `usage` object.
    pub(super) fn absorb(&mut self, usage: &Value) {
        let larger = |field: &mut i64, value: &Value| {
            *field = value.as_i64().map_or(*field, |value| value.max(*field));
        };
        larger(&mut self.input, &usage["input_tokens"]);
        larger(&mut self.output, &usage["output_tokens"]);
        larger(&mut self.cache_read, &usage["cache_read_input_tokens"]);
        larger(&mut self.cache_write, &usage["cache_creation_input_tokens"]);
        let split = &usage["cache_creation"];
        larger(&mut self.cache_write_5m, &split["ephemeral_5m_input_tokens"]);
        larger(&mut self.cache_write_1h, &split["ephemeral_1h_input_tokens"]);
        if let Value::Object(tools) = &usage["server_tool_use"] {
            let count = |value: &Value| value.as_i64().unwrap_or(0).max(0);
            let all: i64 = tools.values().map(count).sum();
            let searches = tools.get("web_search_requests").map_or(0, count);
            self.web_searches = self.web_searches.max(searches);
            self.other_tools = self.other_tools.max(all - searches);
        }
        self.fast |= usage["speed"] == "fast";
        self.in_us |= usage["inference_geo"] == "us";
        if let Value::Array(iterations) = &usage["iterations"] {
            self.inner = iterations.iter().filter_map(inner).collect();
        }
    }

    /// Raises the output to at least this many tokens.
    pub(super) fn at_least_output(&mut self, tokens: i64) {
        self.output = self.output.max(tokens);
    }

    /// What the request used, part by part: itself, by `model`, and requests inside it.
    pub(super) fn parts<'a>(&'a self, model: &'a str) -> Vec<(&'a str, Consumption)> {
        let mut parts = vec![(model, self.own())];
        parts.extend(
            self.inner.iter().map(|(by, used)| (by.as_deref().unwrap_or(model), used.clone())),
        );
        parts
    }

    fn own(&self) -> Consumption {
        let unsplit = (self.cache_write - self.cache_write_5m - self.cache_write_1h).max(0);
        let hourly = self.cache_write_1h > 0 && self.cache_write_5m == 0;
        let tokens = TokenUsage {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read,
            cache_write_5m: self.cache_write_5m + if hourly { 0 } else { unsplit },
            cache_write_1h: self.cache_write_1h + if hourly { unsplit } else { 0 },
            server_tool_requests: self.web_searches.saturating_add(self.other_tools),
        };
        Consumption { tokens, web_searches: self.web_searches, fast: self.fast, in_us: self.in_us }
    }
}

/// One of `usage.iterations`, if the totals leave it out: compactions of the context, and advice
/// asked of another model.
fn inner(iteration: &Value) -> Option<(Option<String>, Consumption)> {
    if !matches!(iteration["type"].as_str(), Some("compaction" | "advisor_message")) {
        return None;
    }
    let mut tally = Tally::default();
    tally.absorb(iteration);
    Some((iteration["model"].as_str().map(str::to_owned), tally.own()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokens(usages: &[Value]) -> TokenUsage {
        let mut tally = Tally::default();
        for usage in usages {
            tally.absorb(usage);
        }
        tally.own().tokens
    }

    #[test]
    fn the_end_of_a_stream_completes_its_start() {
        let start = json!({ "input_tokens": 11, "output_tokens": 1, "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 100,
            "cache_creation": { "ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40 } });
        let end = json!({ "output_tokens": 25, "input_tokens": null,
            "cache_creation_input_tokens": 110, "server_tool_use": {
                "web_search_requests": 2, "web_fetch_requests": 1 } });
        let expected = TokenUsage {
            input: 11,
            output: 25,
            cache_read: 1000,
            cache_write_5m: 70,
            cache_write_1h: 40,
            server_tool_requests: 3,
        };
        assert_eq!(tokens(&[start, end]), expected);
    }

    #[test]
    fn writes_without_a_split_are_of_the_kind_the_request_used() {
        let hourly = json!({ "cache_creation": { "ephemeral_1h_input_tokens": 40 } });
        let later = json!({ "cache_creation_input_tokens": 50 });
        let used = tokens(&[hourly, later.clone()]);
        assert_eq!((used.cache_write_5m, used.cache_write_1h), (0, 50));
        let used = tokens(&[later]);
        assert_eq!((used.cache_write_5m, used.cache_write_1h), (50, 0));
    }

    #[test]
    fn what_is_not_a_count_counts_as_nothing() {
        let usage = json!({ "input_tokens": "many", "output_tokens": -3, "server_tool_use": [],
            "cache_creation": 7, "iterations": { "a": 1 } });
        assert_eq!(tokens(&[usage]), TokenUsage::default());
        assert_eq!(tokens(&[json!(null)]), TokenUsage::default());
    }

    #[test]
    fn requests_inside_the_request_are_parts_of_their_own() {
        let mut tally = Tally::default();
        tally.absorb(&json!({ "input_tokens": 2, "output_tokens": 97, "iterations": [
            { "type": "compaction", "input_tokens": 48, "output_tokens": 496 },
            { "type": "advisor_message", "model": "claude-opus-5", "input_tokens": 9 },
            { "type": "message", "input_tokens": 2, "output_tokens": 97 },
        ] }));
        let parts: Vec<_> = tally
            .parts("claude-sonnet-5")
            .into_iter()
            .map(|(model, used)| (model, used.tokens.input, used.tokens.output))
            .collect();
        assert_eq!(
            parts,
            [("claude-sonnet-5", 2, 97), ("claude-sonnet-5", 48, 496), ("claude-opus-5", 9, 0)]
        );
    }
}
