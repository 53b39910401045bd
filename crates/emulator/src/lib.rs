//! A stand-in for the Anthropic Messages API: what tests, benches and the demo talk to.
//!
//! It fakes the outermost edge, so that everything of ours, and the real coding agents, run
//! unchanged against it. What the model "says" comes from the prompt itself: a script between
//! `<<SCRIPT ` and ` SCRIPT>>` holds one list of blocks per answer, and which answer is due
//! follows from the conversation (the assistant messages after the last user message with a
//! script). Nothing is remembered between requests, so sessions may run side by side, be
//! resumed, forked or killed, and still get the answer that belongs to their place.
//!
//! ```text
//! <<SCRIPT [[{"text":"Looking."},{"tool":"Bash","input":{"command":"ls"}}],[{"text":"Done."}]] SCRIPT>>
//! ```
//!
//! | Block | Meaning |
//! |---|---|
//! | `{"text":"…"}` | a text block |
//! | `{"think":"…"}` | a thinking block |
//! | `{"tool":"Bash","input":{…}}` | a tool use; the stop reason becomes `tool_use` |
//! | `{"usage":{…}}` | fields of `usage` to override, `cache_creation` and `server_tool_use` included |
//! | `{"stop":"max_tokens"}` | another stop reason |
//! | `{"slow":[n,seconds]}` | every text goes out in `n` parts with a wait after each |
//! | `{"sleep":seconds}` | a wait at this place; as first block, before the answer begins |
//! | `{"hang":true}` | nothing more, with the connection open |
//! | `{"cut":true}` | the connection breaks here, in the middle of the answer |
//! | `{"drop":true}` | the connection closes without any answer |
//! | `{"sse_error":"overloaded_error"}` | an `error` event in mid-stream |
//! | `{"error":529,"type":"…","message":"…","headers":{…}}` | an HTTP error in place of an answer |
//!
//! Any block may carry `"times":n`: it applies to the first `n` attempts at its step and is
//! passed over afterwards, so that a retry succeeds. That alone needs memory; it is bounded and
//! kept apart by conversation (`x-claude-code-session-id`).
//!
//! A conversation without a script meets a small brain of the emulator's own: it repairs the
//! [demo repository](demo_repository), runs a command it is given, and otherwise says what it is.
//! A request without tools (agents ask for titles so) gets a short plain text. Keys that contain
//! `invalid` are refused with 401.

mod attempts;
mod brain;
mod demo;
mod player;
mod reply;
mod request;
mod script;
mod server;

pub use demo::demo_repository;
pub use server::{Emulator, EmulatorHandle, RecordedRequest};
