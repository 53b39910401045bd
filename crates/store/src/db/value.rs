//! Values as they pass to and from a database, and how our nouns are written as such.

use rclaude_types::{
    ApprovalId, CheckpointId, ExecId, Generation, KeyId, LayerId, MicroUsd, Phase, SandboxId,
    SessionId, SshKeyId, Timestamp, TurnId,
};
use serde::{Serialize, de::DeserializeOwned};

/// One value of a row or a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing.
    Null,
    /// A number, a moment, an amount, a truth.
    Integer(i64),
    /// Text, an id, a label, JSON.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What can be read from a column. The error says what was found instead.
pub(crate) trait Column: Sized {
    /// Reads it.
    fn read(value: Value) -> Result<Self, String>;
}

/// Writes and reads anything serde knows as a text of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Json<T>(pub(crate) T);

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Integer(truth.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Blob(bytes.to_vec())
    }
}

impl From<Timestamp> for Value {
    fn from(moment: Timestamp) -> Self {
        Self::Integer(moment.as_micros())
    }
}

impl From<MicroUsd> for Value {
    fn from(amount: MicroUsd) -> Self {
        Self::Integer(amount.0)
    }
}

impl From<Generation> for Value {
    fn from(generation: Generation) -> Self {
        Self::Integer(generation.0)
    }
}

impl From<Phase> for Value {
    fn from(phase: Phase) -> Self {
        Self::Text(match phase {
            Phase::Failed(reason) => format!("failed:{}", label(reason)),
            plain => label(plain),
        })
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Serialize> From<Json<T>> for Value {
    fn from(json: Json<T>) -> Self {
        let text = serde_json::to_string(&json.0);
        Self::Text(text.expect("our types have string keys and serializers that do not fail"))
    }
}

macro_rules! ids {
    ($($id:ty),*) => {$(
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Self::Text(id.as_str().to_owned())
            }
        }

        impl Column for $id {
            fn read(value: Value) -> Result<Self, String> {
                String::read(value)?.try_into().map_err(|error: rclaude_types::IdError| error.to_string())
            }
        }
    )*};
}
ids!(ApprovalId, CheckpointId, ExecId, KeyId, LayerId, SandboxId, SessionId, SshKeyId, TurnId);

/// The word of an enumeration's plain variant, as the API spells it.
pub(crate) fn label(variant: impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("labels are made of plain variants alone, not of {other:?}"),
    }
}

/// The variant that a word stands for.
pub(crate) fn unlabel<T: DeserializeOwned>(word: String) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|error| error.to_string())
}

impl Column for i64 {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => Ok(number),
            other => Err(format!("a number was expected, not {other:?}")),
        }
    }
}

impl Column for u16 {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value)?.try_into().map_err(|_| "a number beyond 16 bits".to_owned())
    }
}

impl Column for i32 {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value)?.try_into().map_err(|_| "a number beyond 32 bits".to_owned())
    }
}

impl Column for u64 {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value)?.try_into().map_err(|_| "a negative number".to_owned())
    }
}

impl Column for bool {
    fn read(value: Value) -> Result<Self, String> {
        Ok(i64::read(value)? != 0)
    }
}

impl Column for String {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(format!("text was expected, not {other:?}")),
        }
    }
}

impl Column for Vec<u8> {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Blob(bytes) => Ok(bytes),
            other => Err(format!("bytes were expected, not {other:?}")),
        }
    }
}

impl Column for Timestamp {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value).map(Self::from_micros)
    }
}

impl Column for MicroUsd {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value).map(Self)
    }
}

impl Column for Generation {
    fn read(value: Value) -> Result<Self, String> {
        i64::read(value).map(Self)
    }
}

impl Column for Phase {
    fn read(value: Value) -> Result<Self, String> {
        let word = String::read(value)?;
        match word.strip_prefix("failed:") {
            Some(reason) => unlabel(reason.to_owned()).map(Self::Failed),
            None => unlabel(word),
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            present => T::read(present).map(Some),
        }
    }
}

impl<T: DeserializeOwned> Column for Json<T> {
    fn read(value: Value) -> Result<Self, String> {
        serde_json::from_str(&String::read(value)?).map(Self).map_err(|error| error.to_string())
    }
}
