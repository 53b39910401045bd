//! What the emulator reads of a request: enough to find its place in the conversation.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Body of `POST /v1/messages`. Fields it does not name are passed over unseen.
#[derive(Debug, Deserialize)]
pub(crate) struct MessagesRequest<'a> {
    #[serde(borrow)]
    pub(crate) model: Cow<'a, str>,
    #[serde(default)]
    pub(crate) stream: bool,
    #[serde(borrow)]
    pub(crate) messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    pub(crate) tools: Vec<Tool<'a>>,
}

/// One message; its content is parsed when somebody asks.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// A tool on offer.
#[derive(Debug, Deserialize)]
pub(crate) struct Tool<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
}

/// A content block of any type: the fields of those that matter here.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ContentBlock<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(crate) kind: Cow<'a, str>,
    /// Of `text`.
    #[serde(borrow, default)]
    pub(crate) text: Cow<'a, str>,
    /// Of `tool_use`.
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    /// Of `tool_result`.
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    /// Of `tool_result`.
    #[serde(default)]
    pub(crate) is_error: bool,
}

impl<'a> Message<'a> {
    /// Its content as it was sent: JSON text, for looking without parsing.
    pub(crate) fn raw(&self) -> &'a str {
        self.content.get()
    }

    pub(crate) fn is(&self, role: &str) -> bool {
        self.role == role
    }

    /// Its blocks; a content that is one string counts as one text block.
    pub(crate) fn blocks(&self) -> Vec<ContentBlock<'a>> {
        blocks(self.content)
    }
}

impl ContentBlock<'_> {
    /// The text of a tool's result, its parts joined by line ends.
    pub(crate) fn result_text(&self) -> String {
        let parts: Vec<_> = self.content.map(blocks).unwrap_or_default();
        let texts: Vec<_> = parts.iter().map(|part| part.text.as_ref()).collect();
        texts.join("\n")
    }
}

fn blocks(content: &RawValue) -> Vec<ContentBlock<'_>> {
    if content.get().starts_with('"') {
        let text = serde_json::from_str::<String>(content.get()).unwrap_or_default();
        return vec![ContentBlock {
            kind: Cow::Borrowed("text"),
            text: Cow::Owned(text),
            ..ContentBlock::default()
        }];
    }
    serde_json::from_str(content.get()).unwrap_or_default()
}
