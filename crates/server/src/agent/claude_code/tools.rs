//! Tool calls and what they returned, as a person wants to see them.

use rclaude_types::{EventBody, FileDiff, ToolKind, ToolLocation};
use serde_json::Value;

use super::json;
use crate::agent::{
    MAX_TEXT_BYTES,
    text::{bounded, one_line},
};

/// Characters of a title after the tool's name.
const TITLE_CHARS: usize = 120;

/// The fields of an input that say most, best first.
const ABOUT: &[&str] = &[
    "command",
    "file_path",
    "notebook_path",
    "path",
    "pattern",
    "query",
    "url",
    "subject",
    "description",
    "skill",
    "taskId",
    "prompt",
];

/// What sort of tool a name stands for.
pub(super) fn kind(name: &str) -> ToolKind {
    match name {
        "Bash" | "BashOutput" | "KillShell" | "PowerShell" | "Monitor" => ToolKind::Execute,
        "Read" | "NotebookRead" | "LS" => ToolKind::Read,
        "Edit" | "Write" | "MultiEdit" | "NotebookEdit" => ToolKind::Edit,
        "Grep" | "Glob" | "LSP" | "ToolSearch" => ToolKind::Search,
        "WebFetch" | "WebSearch" | "web_search" | "web_fetch" => ToolKind::Fetch,
        "Task" | "Agent" | "Workflow" | "TodoWrite" | "TaskCreate" | "TaskUpdate" | "TaskList"
        | "TaskGet" | "TaskOutput" | "TaskStop" | "EnterPlanMode" | "ExitPlanMode"
        | "AskUserQuestion" => ToolKind::Think,
        _ => ToolKind::Other,
    }
}

/// One line that says what a call does: the tool and what it is mostly about.
pub(super) fn title(name: &str, input: &Value) -> String {
    let about = match name {
        "AskUserQuestion" => {
            let first = json::list(input, "questions").first();
            return first
                .and_then(|first| json::text(first, "question"))
                .map_or_else(|| name.to_owned(), |question| one_line(question, TITLE_CHARS));
        }
        "ExitPlanMode" => json::text(input, "plan"),
        _ => ABOUT.iter().find_map(|key| json::text(input, key)),
    };
    match about {
        Some(about) => format!("{name}: {}", one_line(about, TITLE_CHARS)),
        None => name.to_owned(),
    }
}

/// A `tool_use` block.
pub(super) fn call(block: &Value, id: String, parent: Option<String>) -> EventBody {
    let name = json::id(block, "name").unwrap_or_else(|| "unknown".to_owned());
    let input = block.get("input").cloned().unwrap_or_default();
    EventBody::ToolCall {
        kind: kind(&name),
        title: title(&name, &input),
        locations: locations(&input),
        id,
        name,
        input,
        parent,
    }
}

fn locations(input: &Value) -> Vec<ToolLocation> {
    let line = input.get("offset").and_then(Value::as_u64).and_then(|line| line.try_into().ok());
    ["file_path", "notebook_path"]
        .iter()
        .find_map(|key| json::text(input, key))
        .map(|path| ToolLocation { path: path.to_owned(), line })
        .into_iter()
        .collect()
}

/// A `tool_result` block with the structured result that came along, if any.
pub(super) fn result(block: &Value, detail: &Value, parent: Option<String>) -> EventBody {
    let is_error = json::flag(block, "is_error");
    EventBody::ToolResult {
        id: json::id(block, "tool_use_id").unwrap_or_default(),
        is_error,
        output: bounded(
            &set_aside(detail).unwrap_or_else(|| output(&block["content"])),
            MAX_TEXT_BYTES,
        ),
        diffs: if is_error { Vec::new() } else { diff(detail).into_iter().collect() },
        parent,
    }
}

/// What a tool returned, as text.
fn output(content: &Value) -> String {
    match content {
        Value::String(text) => untagged(text).to_owned(),
        Value::Array(blocks) => blocks.iter().map(block_text).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A command's output that was too long for the model, which got a file's name and a preview;
/// the structured result has more of it.
fn set_aside(detail: &Value) -> Option<String> {
    let path = json::text(detail, "persistedOutputPath")?;
    let stdout = json::text(detail, "stdout")?;
    let whole = json::count(detail, "persistedOutputSize");
    Some(format!("{stdout}\n[{} of {whole} bytes; all of it is in {path}]", stdout.len()))
}

/// A refused call's message comes in a tag meant for the model.
fn untagged(text: &str) -> &str {
    text.strip_prefix("<tool_use_error>")
        .and_then(|text| text.strip_suffix("</tool_use_error>"))
        .unwrap_or(text)
}

fn block_text(block: &Value) -> String {
    match json::text(block, "type") {
        Some("text") => json::text(block, "text").unwrap_or_default().to_owned(),
        Some(kind @ ("image" | "document")) => {
            let source = &block["source"];
            let media = json::text(source, "media_type").unwrap_or("unknown type");
            // Base64 is four characters for three bytes.
            let bytes = json::text(source, "data").map_or(0, |data| data.len() / 4 * 3);
            format!("[{kind}: {media}, {bytes} bytes]")
        }
        _ => block.to_string(),
    }
}

/// The change an editing tool made, from its structured result.
fn diff(detail: &Value) -> Option<FileDiff> {
    let file = json::text(detail, "filePath")?;
    let hunks = json::list(detail, "structuredPatch");
    let patch = if !hunks.is_empty() {
        hunks.iter().map(hunk).collect()
    } else if json::text(detail, "type") == Some("create") {
        created(json::text(detail, "content")?)
    } else {
        return None;
    };
    Some(FileDiff { path: file.to_owned(), patch: bounded(&patch, MAX_TEXT_BYTES) })
}

fn hunk(hunk: &Value) -> String {
    let [old, old_lines, new, new_lines] =
        ["oldStart", "oldLines", "newStart", "newLines"].map(|key| json::count(hunk, key));
    let mut text = format!("@@ -{old},{old_lines} +{new},{new_lines} @@\n");
    for line in json::list(hunk, "lines").iter().filter_map(Value::as_str) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// A new file's content as one hunk that adds it all.
fn created(content: &str) -> String {
    let lines = content.lines().count();
    let mut text = format!("@@ -0,0 +1,{lines} @@\n");
    for line in content.lines() {
        text.push('+');
        text.push_str(line);
        text.push('\n');
    }
    if !content.ends_with('\n') {
        text.push_str("\\ No newline at end of file\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_title_names_the_tool_and_what_it_is_about() {
        for (name, input, wanted) in [
            ("Bash", json!({"command": "cargo test\ncargo doc"}), "Bash: cargo test …"),
            ("Read", json!({"file_path": "/workspace/a"}), "Read: /workspace/a"),
            ("AskUserQuestion", json!({"questions": [{"question": "Why?"}]}), "Why?"),
            ("Other", json!(["odd"]), "Other"),
        ] {
            assert_eq!(title(name, &input), wanted);
        }
    }

    #[test]
    fn a_new_file_is_all_additions() {
        assert_eq!(created("a\nb"), "@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n");
    }

    #[test]
    fn pictures_are_named_and_not_copied() {
        let picture =
            json!([{"type": "image", "source": {"media_type": "image/png", "data": "AAAA"}}]);
        assert_eq!(output(&picture), "[image: image/png, 3 bytes]");
    }
}
