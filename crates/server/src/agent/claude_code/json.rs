//! Reading JSON leniently: a field of an unexpected type is as good as absent.

use rclaude_types::PermissionMode;
use serde_json::Value;

/// The longest id taken over from the agent. Ids are kept in the translator's state, which must
/// stay small whatever the agent prints.
const MAX_ID_BYTES: usize = 256;

/// A text field; absent, of another type or empty is `None`.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// An id, cut to a sane length.
pub(super) fn id(value: &Value, key: &str) -> Option<String> {
    text(value, key).map(|id| id[..id.floor_char_boundary(MAX_ID_BYTES)].to_owned())
}

/// A list; absent or of another type is empty.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A number; absent, negative or of another type is 0.
pub(super) fn count(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or_default().max(0)
}

/// A truth; absent or of another type is `false`.
pub(super) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A permission mode's word on the wire. The vocabulary of our type is Claude Code's own; the
/// command line also says `manual` for `default`.
pub(super) fn mode(word: &str) -> Option<PermissionMode> {
    Some(match word {
        "default" | "manual" => PermissionMode::Default,
        "acceptEdits" => PermissionMode::AcceptEdits,
        "bypassPermissions" => PermissionMode::BypassPermissions,
        "plan" => PermissionMode::Plan,
        "dontAsk" => PermissionMode::DontAsk,
        _ => return None,
    })
}

/// The word for a permission mode on the wire.
pub(super) fn mode_word(mode: PermissionMode) -> &'static str {
    match mode {
        PermissionMode::Default => "default",
        PermissionMode::AcceptEdits => "acceptEdits",
        PermissionMode::BypassPermissions => "bypassPermissions",
        PermissionMode::Plan => "plan",
        PermissionMode::DontAsk => "dontAsk",
    }
}
