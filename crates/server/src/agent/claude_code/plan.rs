//! The agent's list of what it means to do, and the plan it wants approved.
//!
//! Older models rewrite the list at once (`TodoWrite`); newer ones make and change one task at a
//! time (`TaskCreate`, `TaskUpdate`), so the list is kept here.

use rclaude_types::{EventBody, PlanEntry, PlanStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;
use crate::agent::{
    text::{bounded, one_line},
    translator::Signals,
};

/// Bounds of what is kept between lines.
const MAX_ENTRIES: usize = 200;
const MAX_ENTRY_CHARS: usize = 500;
const MAX_OPEN_CALLS: usize = 32;
const MAX_PLAN_BYTES: usize = 64 * 1024;

/// The list as far as it is known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    tasks: Vec<Task>,
    /// Updates asked for and not yet confirmed, by tool call.
    updates: Vec<(String, Update)>,
    /// The plan put forward last, by tool call: the question about it does not repeat it.
    proposed: Option<(String, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    id: String,
    entry: PlanEntry,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Update {
    task: String,
    subject: Option<String>,
    status: Option<String>,
}

impl Plan {
    /// The text of the plan that a tool call put forward.
    pub(super) fn proposed(&self, tool_call: &str) -> Option<&str> {
        let (call, plan) = self.proposed.as_ref()?;
        (call == tool_call).then_some(plan)
    }

    /// A tool was called.
    pub(super) fn called(&mut self, tool_call: &str, block: &Value, signals: &mut Signals) {
        let input = &block["input"];
        match json::text(block, "name").unwrap_or_default() {
            "TodoWrite" => {
                let entries: Vec<_> = json::list(input, "todos")
                    .iter()
                    .take(MAX_ENTRIES)
                    .filter_map(|todo| {
                        let status = status(json::text(todo, "status")?)?;
                        Some(PlanEntry { content: subject(json::text(todo, "content")?), status })
                    })
                    .collect();
                signals.event(EventBody::Plan { entries });
            }
            "TaskUpdate" => {
                let Some(task) = json::id(input, "taskId") else { return };
                if self.updates.len() == MAX_OPEN_CALLS {
                    self.updates.remove(0);
                }
                let update = Update {
                    task,
                    subject: json::text(input, "subject").map(subject),
                    status: json::id(input, "status"),
                };
                self.updates.push((tool_call.to_owned(), update));
            }
            "ExitPlanMode" => {
                self.proposed = json::text(input, "plan")
                    .map(|plan| (tool_call.to_owned(), bounded(plan, MAX_PLAN_BYTES)));
            }
            _ => {}
        }
    }

    /// A tool returned.
    pub(super) fn returned(&mut self, block: &Value, detail: &Value, signals: &mut Signals) {
        let Some(call) = json::id(block, "tool_use_id") else { return };
        self.proposed.take_if(|(proposed, _)| *proposed == call);
        let update = self
            .updates
            .iter()
            .position(|(asked, _)| *asked == call)
            .map(|index| self.updates.remove(index).1);
        if json::flag(block, "is_error") || detail["success"] == false {
            return;
        }
        let task = &detail["task"];
        let changed = if let Some(update) = update {
            self.apply(update)
        } else if let (Some(id), Some(name)) = (json::id(task, "id"), json::text(task, "subject")) {
            let entry = PlanEntry { content: subject(name), status: PlanStatus::Pending };
            self.tasks.truncate(MAX_ENTRIES - 1);
            self.tasks.push(Task { id, entry });
            true
        } else if let Some(tasks) = listed(detail) {
            self.tasks = tasks;
            true
        } else {
            false
        };
        if changed {
            let entries = self.tasks.iter().map(|task| task.entry.clone()).collect();
            signals.event(EventBody::Plan { entries });
        }
    }

    fn apply(&mut self, update: Update) -> bool {
        let Some(index) = self.tasks.iter().position(|task| task.id == update.task) else {
            return false;
        };
        if update.status.as_deref() == Some("deleted") {
            self.tasks.remove(index);
            return true;
        }
        let entry = &mut self.tasks[index].entry;
        if let Some(subject) = update.subject {
            entry.content = subject;
        }
        if let Some(status) = update.status.as_deref().and_then(status) {
            entry.status = status;
        }
        true
    }
}

/// The list as the binary keeps it, which outlives this process of it.
fn listed(detail: &Value) -> Option<Vec<Task>> {
    let tasks = detail.get("tasks")?.as_array()?.iter().take(MAX_ENTRIES);
    tasks
        .map(|task| {
            let status = status(json::text(task, "status")?)?;
            let content = subject(json::text(task, "subject")?);
            Some(Task { id: json::id(task, "id")?, entry: PlanEntry { content, status } })
        })
        .collect()
}

fn subject(text: &str) -> String {
    one_line(text, MAX_ENTRY_CHARS)
}

fn status(word: &str) -> Option<PlanStatus> {
    Some(match word {
        "pending" => PlanStatus::Pending,
        "in_progress" => PlanStatus::InProgress,
        "completed" => PlanStatus::Completed,
        _ => return None,
    })
}
