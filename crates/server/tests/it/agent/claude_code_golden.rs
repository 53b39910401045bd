//! What every recording means, in golden files; and what must hold for all of them.

use std::collections::{BTreeMap, HashSet};

use rclaude_server::agent::Signal;
use rclaude_types::{EventBody, TurnOutcome};

use super::recording::{self, Recording, claude_code, shown};

#[test]
fn every_recording_translates_as_before() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/claude_code");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for recording in recording::all() {
            let mut signals = recording.signals();
            let stderr = recording.stderr();
            signals.extend(stderr.iter().filter_map(|line| claude_code().stderr(line)));
            insta::assert_snapshot!(recording.name.clone(), shown(&signals));
        }
    });
}

#[test]
fn nothing_the_pinned_binary_says_is_unknown() {
    for recording in recording::all() {
        for signal in recording.signals() {
            let raw = matches!(signal, Signal::Event(EventBody::Raw { .. }) | Signal::Reply(_));
            assert!(!raw, "{}: {signal:?}", recording.name);
        }
    }
}

#[test]
fn parts_of_a_message_add_up_to_the_whole_with_the_same_id() {
    let mut compared = 0;
    for recording in recording::all() {
        let mut parts: BTreeMap<String, String> = BTreeMap::new();
        let mut wholes = HashSet::new();
        for signal in recording.signals() {
            match signal {
                Signal::Event(
                    EventBody::MessageDelta { id, text, .. }
                    | EventBody::ThoughtDelta { id, text, .. },
                ) => parts.entry(id).or_default().push_str(&text),
                Signal::Event(
                    EventBody::Message { id, text, .. } | EventBody::Thought { id, text, .. },
                ) => {
                    if let Some(parts) = parts.get(&id) {
                        assert_eq!(*parts, text, "{}: {id}", recording.name);
                        compared += 1;
                    }
                    assert!(wholes.insert(id.clone()), "{}: {id} came twice", recording.name);
                }
                _ => {}
            }
        }
        let unpaired: Vec<_> = parts.keys().filter(|id| !wholes.contains(*id)).collect();
        assert!(unpaired.is_empty(), "{}: {unpaired:?} never came whole", recording.name);
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn every_tool_result_belongs_to_a_call_and_ids_are_unique() {
    for recording in recording::all() {
        let mut calls = HashSet::new();
        for signal in recording.signals() {
            match signal {
                Signal::Event(EventBody::ToolCall { id, .. }) => {
                    assert!(calls.insert(id.clone()), "{}: {id} came twice", recording.name);
                }
                Signal::Event(EventBody::ToolResult { id, .. }) => {
                    assert!(calls.contains(&id), "{}: {id}", recording.name);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn clearing_the_conversation_changes_the_id_to_resume_by() {
    let signals = Recording::read("clear").signals();
    let ids: HashSet<_> = signals
        .iter()
        .filter_map(|signal| match signal {
            Signal::Identity { agent_session } => Some(agent_session),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
}

/// The outcomes in the order they came.
fn outcomes(name: &str) -> Vec<(TurnOutcome, Option<String>, usize)> {
    Recording::read(name)
        .signals()
        .into_iter()
        .filter_map(|signal| match signal {
            Signal::Result(result) => Some((result.outcome, result.failure, result.turns.len())),
            _ => None,
        })
        .collect()
}

#[test]
fn steering_puts_two_prompts_into_one_result_and_a_background_task_makes_one_of_its_own() {
    assert_eq!(outcomes("steer"), [(TurnOutcome::Completed, None, 2)]);
    let done = (TurnOutcome::Completed, None, 1);
    assert_eq!(outcomes("queued"), [done.clone(), done]);
    assert_eq!(
        outcomes("background"),
        [(TurnOutcome::Completed, None, 1), (TurnOutcome::Completed, None, 0)]
    );
}

#[test]
fn a_stopped_turn_is_interrupted_and_not_failed() {
    for name in ["interrupt-streaming", "interrupt-tool", "interrupt-asking", "ask-deny-interrupt"]
    {
        assert_eq!(outcomes(name)[0], (TurnOutcome::Interrupted, None, 1), "{name}");
    }
}

#[test]
fn an_api_failure_that_looks_like_success_fails_and_says_what_to_do() {
    for (name, words) in [
        ("api-400", "refused the request"),
        ("api-401", "Check the API key"),
        ("api-402", "budget of $1.00 is spent"),
        ("api-403", "Not allowed here"),
        ("api-413", "too large"),
        ("api-429", "Wait a while"),
        ("api-500", "send the prompt again"),
        ("api-529", "overloaded"),
        ("refused", "could not be reached"),
        ("not-logged-in", "Give the server an API key"),
        ("too-long", "/compact"),
    ] {
        let [(TurnOutcome::Failed, Some(failure), 1)] = &outcomes(name)[..] else {
            panic!("{name}: {:?}", outcomes(name))
        };
        assert!(failure.contains(words), "{name}: {failure}");
    }
}

#[test]
fn a_conversation_that_is_not_there_or_is_there_already_is_told_apart_from_failure() {
    assert_eq!(Recording::read("resume-unknown").signals(), [Signal::ResumeFailed]);
    let in_use = Recording::read("session-in-use");
    assert!(in_use.signals().is_empty());
    let said: Vec<_> = in_use.stderr().iter().filter_map(|l| claude_code().stderr(l)).collect();
    assert_eq!(said, [Signal::AlreadyExists]);
}

#[test]
fn a_prompt_sent_again_after_a_resume_runs_once_more_only_if_it_was_cut_short() {
    let kinds = |name: &str| -> Vec<&str> {
        let signals = Recording::read(name).signals();
        signals
            .iter()
            .filter_map(|signal| match signal {
                Signal::PromptTaken { .. } => Some("taken"),
                Signal::PromptOver { cancelled: false, .. } => Some("over"),
                Signal::Result(_) => Some("result"),
                Signal::Idle => Some("idle"),
                _ => None,
            })
            .collect()
    };
    assert_eq!(kinds("resume-done-resent"), ["over", "idle"]);
    assert_eq!(kinds("resume-resent"), ["over", "taken", "result", "idle"]);
    // Without sending it again it is run again too.
    assert_eq!(kinds("resume-asking-after"), ["taken", "result", "idle"]);
}
