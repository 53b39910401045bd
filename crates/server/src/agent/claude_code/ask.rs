//! What the agent asks its user (`can_use_tool`).

use rclaude_types::{ApprovalKind, Question, QuestionOption};
use serde_json::{Value, json};

use super::{Translation, input, json, tools};
use crate::agent::{Ask, Signal, translator::Signals};

impl Translation {
    /// `control_request`: the binary waits for an answer.
    pub(super) fn request(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let Some(agent_request) = json::id(line, "request_id") else { return false };
        let request = &line["request"];
        let subtype = json::text(request, "subtype").unwrap_or_default();
        let tool = json::id(request, "tool_name");
        let (Some(tool), "can_use_tool") = (tool, subtype) else {
            // Hooks, dialogs and the like are never asked for by us, so nobody will answer.
            signals.push(Signal::Reply(input::unsupported(&agent_request, subtype)));
            return false;
        };
        let kind = match &*tool {
            "AskUserQuestion" => ApprovalKind::Question,
            "ExitPlanMode" => ApprovalKind::Plan,
            _ => ApprovalKind::Permission,
        };
        let tool_call = json::id(request, "tool_use_id");
        let mut shown = request["input"].clone();
        if kind == ApprovalKind::Plan
            && json::text(&shown, "plan").is_none()
            && let Some(plan) = tool_call.as_deref().and_then(|call| self.plan.proposed(call))
        {
            shown = json!({ "plan": plan });
        }
        let always = match kind {
            ApprovalKind::Permission if !json::flag(request, "suppress_always_allow_rule") => {
                remembered(json::list(request, "permission_suggestions"))
            }
            _ => Vec::new(),
        };
        signals.push(Signal::Asked(Ask {
            kind,
            title: match kind {
                ApprovalKind::Plan => "Carry out this plan?".to_owned(),
                ApprovalKind::Question | ApprovalKind::Permission => tools::title(&tool, &shown),
            },
            reason: ["decision_reason", "description"]
                .iter()
                .find_map(|key| json::text(request, key))
                .map(str::to_owned),
            questions: match kind {
                ApprovalKind::Question => questions(&shown),
                _ => Vec::new(),
            },
            can_always: !always.is_empty(),
            raw: json!({ "request": agent_request, "input": request["input"], "always": always }),
            agent_request,
            tool,
            tool_call,
            input: shown,
        }));
        true
    }
}

/// What to send back for "always": of what the binary suggests, the rules for the like of this
/// call, and only if there are none the rest (a wider directory, a more permissive mode), which
/// says more than its user did. Rules are kept in the home directory: the default would be a
/// file in the workspace, which would show as a change of the repository.
fn remembered(suggestions: &[Value]) -> Vec<Value> {
    let rules: Vec<Value> = suggestions
        .iter()
        .filter(|suggestion| json::text(suggestion, "type") == Some("addRules"))
        .map(|rule| {
            let mut rule = rule.clone();
            if json::text(&rule, "destination") != Some("session") {
                rule["destination"] = json!("userSettings");
            }
            rule
        })
        .collect();
    if rules.is_empty() { suggestions.to_vec() } else { rules }
}

fn questions(input: &Value) -> Vec<Question> {
    let text = |value: &Value, key| json::text(value, key).unwrap_or_default().to_owned();
    json::list(input, "questions")
        .iter()
        .map(|question| Question {
            question: text(question, "question"),
            header: text(question, "header"),
            options: json::list(question, "options")
                .iter()
                .map(|option| QuestionOption {
                    label: text(option, "label"),
                    description: text(option, "description"),
                })
                .collect(),
            multi_select: json::flag(question, "multiSelect"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_means_the_rule_and_not_a_wider_mode() {
        let rule = json!({"type": "addRules", "rules": [], "destination": "localSettings"});
        let mode = json!({"type": "setMode", "mode": "acceptEdits", "destination": "session"});
        assert_eq!(
            remembered(&[rule, mode.clone()]),
            [json!({"type": "addRules", "rules": [], "destination": "userSettings"})]
        );
        assert_eq!(remembered(std::slice::from_ref(&mode)), [mode]);
    }
}
