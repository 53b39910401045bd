//! What the emulator says where nobody gave it a script: a few plain stories, told from what the
//! conversation shows, so that they too need no memory.
//!
//! It does not pretend to be a model. It knows one project by heart (the demo repository), can
//! run a command it is handed, and says so when it is asked for anything else.

use serde_json::json;

use crate::{
    demo::{BROKEN_FILE, BROKEN_LINE, REPAIRED_LINE, TEST_FILE},
    request::MessagesRequest,
    script::Block,
};

const RUN_TESTS: &str = "python3 -m unittest -v";

const ABOUT: &str = "I am the emulator that ships with Remote Claude, not a language model: \
    my answers are scripted, and their tokens and costs only look real. In the demo repository you can ask me to \
    \"fix the failing test\"; anywhere, to run a command, as in: run `ls -la`. \
    To work with a real model, give the server an API key.";

/// A tool use and what came of it.
struct Exchange {
    tool: String,
    output: String,
    failed: bool,
}

/// The last thing the user asked, and what was done about it since.
struct Task {
    prompt: String,
    done: Vec<Exchange>,
}

/// What to say next.
pub(crate) fn answer(request: &MessagesRequest<'_>) -> Vec<Block> {
    if request.tools.is_empty() {
        return say("Emulated answer");
    }
    let task = task(request);
    let asked = task.prompt.to_lowercase();
    let offered = |name: &str| request.tools.iter().any(|tool| tool.name == name);
    if asked.contains("fix") && asked.contains("test") {
        if ["Bash", "Read", "Edit"].iter().all(|name| offered(name)) {
            return fix_the_test(&task);
        }
        return say("To fix the test I need the tools Bash, Read and Edit, which I am not given.");
    }
    match command_in(&task.prompt) {
        Some(command) if offered("Bash") => run(command, &task),
        _ => say(ABOUT),
    }
}

fn task(request: &MessagesRequest<'_>) -> Task {
    let mut prompt = String::new();
    let mut done: Vec<Exchange> = Vec::new();
    let mut used: Vec<String> = Vec::new();
    for message in &request.messages {
        for block in message.blocks() {
            match block.kind.as_ref() {
                // Agents add notes of their own to what the user said.
                "text" if message.is("user") && !block.text.starts_with("<system-reminder>") => {
                    prompt = block.text.into_owned();
                    done.clear();
                }
                "tool_use" => used.push(block.name.into_owned()),
                "tool_result" if !used.is_empty() => done.push(Exchange {
                    tool: used.remove(0),
                    output: block.result_text(),
                    failed: block.is_error,
                }),
                _ => {}
            }
        }
    }
    Task { prompt, done }
}

fn fix_the_test(task: &Task) -> Vec<Block> {
    let edited = task.done.iter().any(|exchange| exchange.tool == "Edit" && !exchange.failed);
    let Some(last) = task.done.last() else {
        return use_tool("I'll run the tests to see what fails.", "Bash", run_tests());
    };
    match last.tool.as_str() {
        "Bash" if last.output.contains("FAILED (") && edited => say(&format!(
            "The tests still fail after my change, and I know no other:\n\n{}",
            last_lines(&last.output)
        )),
        "Bash" if last.output.contains("FAILED (") => match root_of_the_demo(&last.output) {
            Some(root) => use_tool(
                "An order of exactly 50.00 pays for shipping though it should not. \
                 I'll look at how shipping is worked out.",
                "Read",
                json!({ "file_path": format!("{root}/{BROKEN_FILE}") }),
            ),
            None => say(&format!(
                "A test fails, but not the one I know how to repair. {ABOUT}\n\n{}",
                last_lines(&last.output)
            )),
        },
        "Bash" if last.output.contains("\nOK") && edited => say(&format!(
            "All tests pass now.\n\nThe cause was in `{BROKEN_FILE}`: shipping was free only for \
             orders *above* the limit, while an order of exactly the limit should ship for free \
             too. I changed `>` to `>=` in `Basket.shipping()`; nothing else needed to change."
        )),
        "Bash" if last.output.contains("\nOK") => {
            say("All tests pass already: there is nothing to fix.")
        }
        "Read" if last.output.contains(BROKEN_LINE.trim()) => {
            let path = task.done.iter().find_map(|exchange| root_of_the_demo(&exchange.output));
            let path = format!("{}/{BROKEN_FILE}", path.unwrap_or("."));
            use_tool(
                "The comparison leaves out the limit itself. I'll include it.",
                "Edit",
                json!({ "file_path": path, "old_string": BROKEN_LINE, "new_string": REPAIRED_LINE }),
            )
        }
        "Edit" if !last.failed => use_tool("Now the tests once more.", "Bash", run_tests()),
        tool => say(&format!(
            "I cannot go on: {tool} did not give me what I need.\n\n{}",
            last_lines(&last.output)
        )),
    }
}

fn run(command: &str, task: &Task) -> Vec<Block> {
    match task.done.last() {
        None => use_tool(
            "I'll run it.",
            "Bash",
            json!({ "command": command, "description": "Run the given command" }),
        ),
        Some(last) if last.failed => say(&format!("It failed:\n\n{}", last_lines(&last.output))),
        Some(last) if last.output.trim().is_empty() => say("Done; it printed nothing."),
        Some(last) => say(&format!("Done. It printed:\n\n{}", last_lines(&last.output))),
    }
}

/// The command of "run `…`".
fn command_in(prompt: &str) -> Option<&str> {
    let lower = prompt.to_ascii_lowercase();
    let start = lower.find("run `")? + "run `".len();
    prompt[start..].split_once('`').map(|(command, _)| command).filter(|c| !c.trim().is_empty())
}

/// The directory the demo repository is in, from a traceback through its test.
fn root_of_the_demo(output: &str) -> Option<&str> {
    output.lines().find_map(|line| {
        let (_, path) = line.split_once("File \"")?;
        let (root, _) = path.split_once(TEST_FILE)?;
        root.strip_suffix('/')
    })
}

fn run_tests() -> serde_json::Value {
    json!({ "command": RUN_TESTS, "description": "Run the test suite" })
}

fn use_tool(text: &str, name: &str, input: serde_json::Value) -> Vec<Block> {
    vec![Block::Text(text.to_owned()), Block::Tool { name: name.to_owned(), input }]
}

fn say(text: &str) -> Vec<Block> {
    vec![Block::Text(text.to_owned())]
}

/// The end of a tool's output, as a code block.
fn last_lines(output: &str) -> String {
    let lines: Vec<_> = output.trim_end().lines().collect();
    format!("```\n{}\n```", lines[lines.len().saturating_sub(20)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const FAILING: &str = "Traceback (most recent call last):\n  File \
        \"/workspace/tests/test_basket.py\", line 20, in test_x\nAssertionError: 5490 != 5000\n\n\
        Ran 4 tests in 0.001s\n\nFAILED (failures=1)";

    /// Plays a whole conversation, with `results` as the tools' answers, and returns the tools
    /// used and the last words.
    fn play(prompt: &str, results: &[(&str, bool)]) -> (Vec<(String, Value)>, String) {
        let tools = json!([{ "name": "Bash" }, { "name": "Read" }, { "name": "Edit" }]);
        let mut messages = vec![json!({ "role": "user", "content": [
            { "type": "text", "text": "<system-reminder>notes</system-reminder>" },
            { "type": "text", "text": prompt },
        ]})];
        let mut used = Vec::new();
        let mut results = results.iter();
        loop {
            let body = json!({ "model": "m", "messages": messages, "tools": tools }).to_string();
            let blocks = answer(&serde_json::from_str(&body).unwrap());
            let Some(Block::Tool { name, input }) = blocks.last() else {
                let [Block::Text(text)] = &blocks[..] else { panic!("{blocks:?}") };
                return (used, text.clone());
            };
            used.push((name.clone(), input.clone()));
            let (output, is_error) = results.next().expect("no more tool uses than results");
            messages.push(json!({ "role": "assistant", "content": [
                { "type": "tool_use", "id": "t", "name": name, "input": input }] }));
            messages.push(json!({ "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "t", "content": output,
                  "is_error": is_error }] }));
        }
    }

    #[test]
    fn the_demo_repository_is_repaired() {
        let file = format!("22\t{BROKEN_LINE}");
        let (used, words) = play(
            "Please fix the failing test",
            &[(FAILING, true), (&file, false), ("edited", false), ("Ran 4 tests\n\nOK", false)],
        );
        let tools: Vec<_> = used.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(tools, ["Bash", "Read", "Edit", "Bash"]);
        assert_eq!(used[1].1["file_path"], "/workspace/shop/basket.py");
        assert_eq!(used[2].1["new_string"], REPAIRED_LINE);
        assert!(words.starts_with("All tests pass now."), "{words}");
    }

    #[test]
    fn a_project_it_does_not_know_is_left_alone() {
        let (used, words) = play("fix the failing test", &[("FAILED (errors=1)", true)]);
        assert_eq!(used.len(), 1);
        assert!(words.contains("not the one I know"), "{words}");
    }

    #[test]
    fn a_refused_tool_ends_the_story() {
        let (used, words) = play("fix the test", &[("The user said no", true)]);
        assert_eq!(used.len(), 1);
        assert!(words.contains("The user said no"), "{words}");
    }

    #[test]
    fn a_command_is_run_and_its_output_told() {
        let (used, words) = play("Run `uname -a` please", &[("Linux", false)]);
        assert_eq!(used[0].1["command"], "uname -a");
        assert!(words.contains("Linux"), "{words}");
    }

    #[test]
    fn anything_else_is_answered_with_what_it_is() {
        assert_eq!(play("Write me a compiler", &[]), (vec![], ABOUT.to_owned()));
    }
}
