//! Our wishes as lines for the binary's standard input.

use rclaude_types::{Decision, PermissionMode, TurnId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::json;

/// What a refusal says where its user said nothing.
const DENIED: &str = "The user does not want this to be done.";

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The uuid of a turn's prompt: the digits of the turn's id.
pub(super) fn uuid_of(turn: &TurnId) -> String {
    let digits = turn.as_str().trim_start_matches(TurnId::PREFIX).trim_start_matches('_');
    Uuid::parse_str(digits).map_or_else(|_| digits.to_owned(), |uuid| uuid.to_string())
}

/// The turn whose prompt has this uuid; the binary also makes uuids of its own.
pub(super) fn turn_of(uuid: &str) -> Option<TurnId> {
    let uuid = Uuid::parse_str(uuid).ok().filter(|uuid| uuid.get_version_num() == 7)?;
    format!("{}_{}", TurnId::PREFIX, uuid.simple()).parse().ok()
}

pub(super) fn prompt(turn: &TurnId, text: &str) -> Vec<u8> {
    line(&json!({
        "type": "user",
        "message": { "role": "user", "content": text },
        "uuid": uuid_of(turn),
    }))
}

fn request(request_id: &str, request: &Value) -> Vec<u8> {
    line(&json!({ "type": "control_request", "request_id": request_id, "request": request }))
}

/// Stops the turn and drops what was said to it and waits.
pub(super) fn interrupt(request_id: &str) -> Vec<u8> {
    request(request_id, &json!({ "subtype": "interrupt", "cancel_queued": true }))
}

pub(super) fn set_model(request_id: &str, model: &str) -> Vec<u8> {
    request(request_id, &json!({ "subtype": "set_model", "model": model }))
}

pub(super) fn set_permission_mode(request_id: &str, mode: PermissionMode) -> Vec<u8> {
    request(request_id, &json!({ "subtype": "set_permission_mode", "mode": json::mode_word(mode) }))
}

pub(super) fn end_session(request_id: &str) -> Vec<u8> {
    request(request_id, &json!({ "subtype": "end_session" }))
}

/// The answer to an ask, from what [`super::ask`] kept of it: `request`, `input`, `always`.
pub(super) fn decision(raw: &Value, decision: &Decision) -> Vec<u8> {
    let response = match decision {
        Decision::Allow { always, input, answers } => {
            let mut input = input.clone().unwrap_or_else(|| raw["input"].clone());
            if let (Some(answers), Some(input)) = (answers, input.as_object_mut()) {
                input.insert("answers".to_owned(), json!(answers));
            }
            let mut response = json!({ "behavior": "allow", "updatedInput": input });
            if *always {
                response["updatedPermissions"] = raw["always"].clone();
            }
            response
        }
        Decision::Deny { message, interrupt } => json!({
            "behavior": "deny",
            "message": message.as_deref().unwrap_or(DENIED),
            "interrupt": interrupt,
        }),
    };
    line(&json!({
        "type": "control_response",
        "response": { "subtype": "success", "request_id": raw["request"], "response": response },
    }))
}

/// Tells the binary that a request of its is not one we serve, so that it does not wait.
pub(super) fn unsupported(request_id: &str, subtype: &str) -> Vec<u8> {
    line(&json!({
        "type": "control_response",
        "response": {
            "subtype": "error",
            "request_id": request_id,
            "error": format!("Unsupported control request subtype: {subtype}"),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_and_its_prompts_uuid_name_each_other() {
        let turn = TurnId::generate();
        assert_eq!(turn_of(&uuid_of(&turn)), Some(turn));
        assert_eq!(turn_of("d0561eb4-8f2a-44f1-8359-fa4eb53a5828"), None);
        assert_eq!(turn_of("not one"), None);
    }
}
