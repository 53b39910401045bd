//! Follows one request and leaves its record, however it ends.
//!
//! A meter is made when a request is about to be forwarded and dropped when nothing more of the
//! answer can come. The record is made once: at the answer's last byte before that byte is passed
//! on, or, for an answer that breaks off or is never waited for, when the meter is dropped.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, StatusCode, header};
use rclaude_types::{SessionId, Timestamp, TokenUsage, UsageId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{
    in_flight::InFlight,
    prices,
    record::{UsageRecord, UsageSink},
    scan::TopLevelScan,
    sse::EventReader,
    usage::Tally,
};
use crate::clock::Clock;

const AGENT_ID: HeaderName = HeaderName::from_static("x-claude-code-agent-id");
const AGENT_SESSION: HeaderName = HeaderName::from_static("x-claude-code-session-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The status of a request whose client did not wait, as nginx has it.
const CLIENT_GONE: u16 = 499;

/// Bytes of text per token, for estimates.
const BYTES_PER_TOKEN: usize = 4;

/// Where records go.
pub(super) struct Books {
    pub(super) sink: Arc<dyn UsageSink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) runtime: Handle,
    pub(super) in_flight: InFlight,
}

/// The request's model, found while its body is sent.
pub(super) type RequestScan = Arc<Mutex<TopLevelScan<1>>>;

/// Follows one request.
pub(super) struct Meter {
    books: Arc<Books>,
    request: RequestScan,
    session: SessionId,
    agent_id: Option<String>,
    agent_session: Option<String>,
    started_at: Timestamp,
    status: Option<u16>,
    request_id: Option<String>,
    reading: Reading,
    recorded: bool,
}

/// How the answer says what was used.
enum Reading {
    /// Not at all: an error, or no answer yet.
    Nothing,
    /// As a JSON object.
    Json(TopLevelScan<2>),
    /// As an event stream.
    Events(EventReader, Events),
}

/// What the events said so far.
#[derive(Default)]
struct Events {
    model: Option<String>,
    tally: Tally,
    /// Bytes of text, thoughts and tool inputs.
    streamed: usize,
    stopped: bool,
}

impl Meter {
    pub(super) fn new(books: Arc<Books>, session: SessionId, headers: &HeaderMap) -> Self {
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        Self {
            request: Arc::new(Mutex::new(TopLevelScan::new(["model"]))),
            session,
            agent_id: text(AGENT_ID),
            agent_session: text(AGENT_SESSION),
            started_at: books.clock.now(),
            status: None,
            request_id: None,
            reading: Reading::Nothing,
            recorded: false,
            books,
        }
    }

    /// To be fed with the request's body.
    pub(super) fn request(&self) -> RequestScan {
        Arc::clone(&self.request)
    }

    /// The gateway answers, in place of the API.
    pub(super) fn refused(&mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
        self.record(false);
    }

    /// The API begins to answer.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        self.status = Some(status.as_u16());
        self.request_id = text(REQUEST_ID).map(str::to_owned);
        if !status.is_success() {
            self.record(false);
            return;
        }
        if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|e| *e != "identity") {
            tracing::warn!(%encoding, session = %self.session, "the model API's answer is encoded \
                though that was not asked for: its usage cannot be read");
        }
        let events = text(header::CONTENT_TYPE).is_some_and(|t| t.starts_with("text/event-stream"));
        self.reading = if events {
            Reading::Events(EventReader::default(), Events::default())
        } else {
            Reading::Json(TopLevelScan::new(["model", "usage"]))
        };
    }

    /// The next bytes of the answer, before they are passed on.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let over = match &mut self.reading {
            Reading::Nothing => return,
            Reading::Json(scan) => {
                scan.feed(bytes);
                scan.closed()
            }
            Reading::Events(reader, events) => {
                reader.feed(bytes, |data| events.take(data));
                events.stopped
            }
        };
        if over {
            self.record(false);
        }
    }

    fn record(&mut self, interrupted: bool) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let (model, tally) = match &mut self.reading {
            Reading::Nothing => (None, Tally::default()),
            Reading::Json(scan) => {
                let mut tally = Tally::default();
                let usage = scan.value(1).and_then(|usage| serde_json::from_slice(usage).ok());
                tally.absorb(&usage.unwrap_or(Value::Null));
                (scan.text(0), tally)
            }
            Reading::Events(_, events) => {
                let mut tally = std::mem::take(&mut events.tally);
                if interrupted {
                    let tokens = events.streamed.div_ceil(BYTES_PER_TOKEN);
                    tally.at_least_output(i64::try_from(tokens).unwrap_or(i64::MAX));
                }
                (events.model.take(), tally)
            }
        };
        let asked = || self.request.lock().unwrap_or_else(PoisonError::into_inner).text(0);
        let model = model.or_else(asked).unwrap_or_default();
        let parts = tally.parts(&model);
        let price = prices::price(parts.iter().map(|(model, used)| (*model, used)));
        let tokens = parts.iter().fold(TokenUsage::default(), |sum, (_, used)| sum + used.tokens);
        drop(parts);
        let record = UsageRecord {
            id: UsageId::generate(),
            session: self.session.clone(),
            agent_id: self.agent_id.take(),
            agent_session: self.agent_session.take(),
            model,
            request_id: self.request_id.take(),
            tokens,
            cost: price.cost,
            price_version: prices::price_version(),
            price_estimated: price.estimated,
            status: self.status.unwrap_or(CLIENT_GONE),
            interrupted,
            started_at: self.started_at,
            ended_at: self.books.clock.now(),
        };
        let books = Arc::clone(&self.books);
        books.in_flight.begin(&self.session);
        let keep = async move {
            let session = record.session.clone();
            books.sink.record(record).await;
            books.in_flight.end(&session);
        };
        self.books.tasks.spawn_on(keep, &self.books.runtime);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.record(true);
    }
}

/// An event, as far as metering goes.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    thinking: Cow<'a, str>,
    #[serde(borrow, default)]
    partial_json: Cow<'a, str>,
}

impl Events {
    fn take(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return };
        match event.kind.as_ref() {
            "message_start" => {
                let message = event.message.map(|message| serde_json::from_str(message.get()));
                if let Some(Ok(Message { model, usage })) = message {
                    self.model = model;
                    self.tally.absorb(&usage);
                }
            }
            "content_block_delta" => {
                let delta = event.delta.map(|delta| serde_json::from_str::<Delta<'_>>(delta.get()));
                if let Some(Ok(delta)) = delta {
                    self.streamed +=
                        delta.text.len() + delta.thinking.len() + delta.partial_json.len();
                }
            }
            "message_delta" => {
                let usage = event.usage.and_then(|usage| serde_json::from_str(usage.get()).ok());
                self.tally.absorb(&usage.unwrap_or(Value::Null));
            }
            "message_stop" => self.stopped = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = concat!(
        "event: message_start\r\n",
        r#"data: {"type":"message_start","message":{"model":"claude-opus-5-5","content":[],"#,
        r#""usage":{"input_tokens":11,"output_tokens":1,"cache_read_input_tokens":1000}}}"#,
        "\r\n\r\nevent: ping\ndata: {\"type\": \"ping\"}\n\n: a comment\n\n",
        r#"data: {"type":"content_block_delta","index":0,"#,
        r#""delta":{"type":"text_delta","text":"h\u00e9llo"}}"#,
        "\n\nevent: message_delta\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"#,
        r#""usage":{"output_tokens":25}}"#,
        "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    /// Model, tokens, bytes streamed and whether the end was seen.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (String, TokenUsage, usize, bool) {
        let mut reader = EventReader::default();
        let mut events = Events::default();
        for piece in pieces {
            reader.feed(piece, |data| events.take(data));
        }
        let tokens = events.tally.parts("")[0].1.tokens;
        (events.model.unwrap_or_default(), tokens, events.streamed, events.stopped)
    }

    fn whole() -> (String, TokenUsage, usize, bool) {
        let tokens =
            TokenUsage { input: 11, output: 25, cache_read: 1000, ..TokenUsage::default() };
        ("claude-opus-5-5".to_owned(), tokens, "h\u{e9}llo".len(), true)
    }

    #[test]
    fn a_stream_split_at_any_byte_says_the_same() {
        for at in 0..=STREAM.len() {
            let (first, second) = STREAM.as_bytes().split_at(at);
            assert_eq!(read([first, second]), whole(), "split at {at}");
        }
        assert_eq!(read(STREAM.as_bytes().chunks(1)), whole());
    }

    proptest! {
        #[test]
        fn a_stream_in_any_pieces_says_the_same(
            mut cuts in prop::collection::vec(0..STREAM.len(), 0..20),
        ) {
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &STREAM.as_bytes()[cut[0]..cut[1]]);
            prop_assert_eq!(read(pieces), whole());
        }

        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            read([&bytes[..]]);
        }
    }
}
