//! Typed identifiers: a prefix that says what is named, then a UUIDv7, so that ids sort by the
//! time they were made and cannot be passed where another noun is meant.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Timestamp, Uuid};

/// A string that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    /// The prefix that was wanted, without the underscore.
    pub wanted: &'static str,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an id of the form {}_<32 hexadecimal digits>", self.wanted)
    }
}

impl std::error::Error for IdError {}

/// Remembers the latest id's time: one made after the clock was set back has that time still.
static LATEST: Mutex<ContextV7> = Mutex::new(ContextV7::new());

fn next() -> Uuid {
    let context = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    Uuid::new_v7(Timestamp::now(&*context))
}

/// Has every id that this process makes from here on sort after `id`. Ids made before it started
/// may be ahead of the host's clock, if that was set back since.
pub fn continue_after(id: &str) {
    let digits = id.rsplit('_').next().unwrap_or(id);
    let made = Uuid::try_parse(digits).ok().and_then(|id| id.get_timestamp());
    let Some((seconds, nanos)) = made.map(|made| made.to_unix()) else { return };
    let after = std::time::Duration::new(seconds, nanos) + std::time::Duration::from_millis(1);
    let context = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = Timestamp::from_unix(&*context, after.as_secs(), after.subsec_nanos());
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = $pattern))]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with, without the underscore.
            pub const PREFIX: &str = $prefix;

            /// A new id, later than all made before it.
            pub fn generate() -> Self {
                Self(format!(concat!($prefix, "_{}"), next().simple()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix(concat!($prefix, "_"));
                match digits {
                    Some(digits) if digits.len() == 32
                        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
                        Ok(Self(text.to_owned())),
                    _ => Err(IdError { wanted: $prefix }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    )*};
}

ids! {
    /// Names a session.
    SessionId = "ses", "^ses_[0-9a-f]{32}$";
    /// Names one incarnation of the machine a session runs on.
    SandboxId = "sbx", "^sbx_[0-9a-f]{32}$";
    /// Names a turn: a prompt and what the agent made of it.
    TurnId = "trn", "^trn_[0-9a-f]{32}$";
    /// Names something the agent asked its user.
    ApprovalId = "apr", "^apr_[0-9a-f]{32}$";
    /// Names a repository the server has a mirror of.
    RepositoryId = "rep", "^rep_[0-9a-f]{32}$";
    /// Names an API key.
    KeyId = "key", "^key_[0-9a-f]{32}$";
    /// Names a public key that opens sessions over SSH.
    SshKeyId = "ssk", "^ssk_[0-9a-f]{32}$";
    /// Names what one request to the model used.
    UsageId = "usg", "^usg_[0-9a-f]{32}$";
    /// Names a session's whole state at one position of its log.
    CheckpointId = "ckp", "^ckp_[0-9a-f]{32}$";
    /// Names a sealed layer: files that never change again.
    LayerId = "lay", "^lay_[0-9a-f]{32}$";
    /// Names a process in a sandbox; chosen by whoever starts it.
    ExecId = "exe", "^exe_[0-9a-f]{32}$";
    /// Names a terminal in a sandbox; chosen by whoever opens it.
    TerminalId = "trm", "^trm_[0-9a-f]{32}$";
}

#[cfg(test)]
mod tests {
    use uuid::NoContext;

    use super::*;

    #[test]
    fn an_id_reads_back_what_it_wrote() {
        let id = SessionId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_sort_after_those_of_a_time_when_the_clock_was_ahead() {
        let hour = std::time::Duration::from_hours(1);
        let ahead = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + hour;
        let ahead = uuid::Timestamp::from_unix(NoContext, ahead.as_secs(), 0);
        let before: SandboxId = format!("sbx_{}", Uuid::new_v7(ahead).simple()).parse().unwrap();
        continue_after(before.as_str());
        assert!(SandboxId::generate() > before);
        continue_after("sbx_of nothing we know");
        assert!(SandboxId::generate() > before);
    }

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let ids: Vec<_> = (0..100).map(|_| TurnId::generate()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn another_nouns_id_and_malformed_text_are_refused() {
        for text in ["", "ses_", "ses_zz", "sbx_019a2b3c4d5e7f8091a2b3c4d5e6f708", "../etc"] {
            assert_eq!(text.parse::<SessionId>(), Err(IdError { wanted: "ses" }), "{text}");
        }
    }
}
