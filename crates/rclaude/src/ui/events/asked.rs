//! What the agent asks, and what became of it, as text.

use rclaude_types::{Approval, ApprovalKind, ApprovalState};

use super::{ERROR_LINES, Renderer, indented};
use crate::ui::text::{clean, clean_line};

impl Renderer {
    pub(super) fn approval(&self, approval: &Approval) -> String {
        let mark = self.err.yellow("?");
        let mut blocks = vec![format!("{mark} {}", self.err.bold(&clean_line(&approval.title)))];
        // Some agents give a part of the input as their reason; it is shown below.
        let said = |reason: &&String| {
            let fields = approval.input.as_object();
            fields.is_some_and(|fields| fields.values().any(|value| value == reason.as_str()))
        };
        if let Some(reason) = approval.reason.as_ref().filter(|reason| !said(reason)) {
            blocks.push(self.lines(&clean(reason), "  ", ERROR_LINES));
        }
        match approval.kind {
            ApprovalKind::Permission => {
                blocks.push(self.input(&approval.input, &clean_line(&approval.title)));
            }
            ApprovalKind::Plan => {
                let plan = approval.input.get("plan").and_then(|plan| plan.as_str());
                blocks.extend(plan.map(|plan| indented(&clean(plan), "  ")));
            }
            ApprovalKind::Question => {}
        }
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n")
    }

    /// A tool's input as `name: value` lines. Never shortened: it is what will be allowed. What
    /// the title above it ends with, whole, is not said again.
    fn input(&self, input: &serde_json::Value, title: &str) -> String {
        let Some(fields) = input.as_object() else {
            return indented(&clean(&input.to_string()), "  ");
        };
        let told = |value: &serde_json::Value| {
            value.as_str().is_some_and(|value| title.ends_with(&format!(": {value}")))
        };
        let fields = fields.iter().filter(|(_, value)| !told(value));
        let lines = fields.map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = clean(value.trim_end());
            let name = self.err.dim(&format!("{}:", clean_line(name)));
            if value.contains('\n') {
                format!("  {name}\n{}", indented(&value, "    "))
            } else {
                format!("  {name} {value}")
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn resolved(&self, state: ApprovalState, message: Option<&str>) -> String {
        let message = message.map(|message| format!(": {}", clean_line(message)));
        let message = message.unwrap_or_default();
        match state {
            ApprovalState::Allowed => format!("  {} allowed{message}", self.err.green("✔")),
            ApprovalState::Denied => format!("  {} denied{message}", self.err.red("✘")),
            ApprovalState::Withdrawn => {
                self.err.dim(&format!("  the agent no longer waits{message}"))
            }
            ApprovalState::Pending => String::new(),
        }
    }
}
