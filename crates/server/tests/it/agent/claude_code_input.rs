//! What we start the binary with and what we send it, against what it accepted when recorded.

use std::collections::{BTreeMap, HashMap};

use rclaude_server::agent::Signal;
use rclaude_types::{Decision, TurnId};
use serde_json::{Value, json};

use super::recording::{self, claude_code};

#[test]
fn the_binary_was_recorded_with_the_command_line_and_environment_we_give_it() {
    for recording in recording::all() {
        let program = claude_code().launch(&recording.launch());
        let program = json!({ "argv": program.argv, "env": program.env });
        assert_eq!(program, recording.launch, "{}", recording.name);
    }
}

/// The decision that a recorded answer carries out.
fn decision_of(answer: &Value, raw: &Value) -> Decision {
    if answer["behavior"] == "deny" {
        return Decision::Deny {
            message: answer["message"].as_str().map(str::to_owned),
            interrupt: answer["interrupt"] == true,
        };
    }
    let mut input = answer["updatedInput"].clone();
    let answers: Option<BTreeMap<String, String>> = input
        .as_object_mut()
        .and_then(|input| input.remove("answers"))
        .map(|answers| serde_json::from_value(answers).unwrap());
    Decision::Allow {
        always: answer.get("updatedPermissions").is_some(),
        input: (input != raw["input"]).then_some(input),
        answers,
    }
}

#[test]
fn every_line_we_send_is_one_that_the_binary_accepted() {
    let adapter = claude_code();
    let mut sent = BTreeMap::new();
    for recording in recording::all() {
        let asked: HashMap<String, Value> = recording
            .signals()
            .into_iter()
            .filter_map(|signal| match signal {
                Signal::Asked(ask) => Some((ask.agent_request, ask.raw)),
                _ => None,
            })
            .collect();
        for line in &recording.input {
            let mut line = line.clone();
            let request = line["request"].clone();
            let id = &*line["request_id"].as_str().unwrap_or_default().to_owned();
            let (kind, bytes) = match (line["type"].as_str(), request["subtype"].as_str()) {
                (Some("user"), _) => {
                    let digits = line["uuid"].as_str().unwrap().replace('-', "");
                    let turn: TurnId = format!("trn_{digits}").parse().unwrap();
                    let text = line["message"]["content"].as_str().unwrap();
                    ("prompt", adapter.prompt(&turn, text))
                }
                (Some("control_response"), _) => {
                    let raw = &asked[line["response"]["request_id"].as_str().unwrap()];
                    let decision = decision_of(&line["response"]["response"], raw);
                    ("decision", adapter.decision(raw, &decision))
                }
                (_, Some("interrupt")) => {
                    // Recorded before queued prompts were taken back with the turn.
                    line["request"]["cancel_queued"] = true.into();
                    ("interrupt", adapter.interrupt(id))
                }
                (_, Some("set_model")) => {
                    ("set_model", adapter.set_model(id, request["model"].as_str().unwrap()))
                }
                (_, Some("set_permission_mode")) if request["mode"] != "nonsense" => {
                    let mode = serde_json::from_value(request["mode"].clone()).unwrap();
                    ("set_permission_mode", adapter.set_permission_mode(id, mode))
                }
                (_, Some("end_session")) => ("end_session", adapter.end_session(id)),
                // Recorded for their answers; we never send them.
                (_, Some("initialize" | "no_such_thing" | "set_permission_mode")) => continue,
                other => panic!("{}: {other:?}", recording.name),
            };
            assert_eq!(bytes.iter().position(|byte| *byte == b'\n'), Some(bytes.len() - 1));
            let ours: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(ours, line, "{}", recording.name);
            *sent.entry(kind).or_insert(0) += 1;
        }
    }
    let kinds: Vec<_> = sent.keys().copied().collect();
    let all =
        ["decision", "end_session", "interrupt", "prompt", "set_model", "set_permission_mode"];
    assert_eq!(kinds, all);
}
