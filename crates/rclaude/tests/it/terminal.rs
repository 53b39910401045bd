//! Somebody at a terminal: asked, answering, interrupting, leaving.
//!
//! The terminal is `script`'s; what it shows is kept as a screen would show it, line by line.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rclaude_types::{SessionStatus, TurnState};
use serde_json::{Value, json};

use crate::{
    platform::{Agent, PATIENCE, Platform, git, repository, script},
    serve::Server,
};

/// A program at a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Where on the screen the next thing is expected.
    seen: usize,
}

impl Terminal {
    /// Starts a command at a terminal that is so many columns wide.
    pub(crate) fn open(command: &Command, columns: u16) -> Self {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| quoted(word.to_str().unwrap())).collect();
        let line = format!("stty cols {columns} rows 40; exec {}", words.join(" "));
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env_clear()
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(command.get_current_dir().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, keys, shown, seen: 0 }
    }

    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until this is shown, after what was waited for before.
    pub(crate) fn expect(&mut self, text: &str) {
        let started = Instant::now();
        loop {
            let bytes = self.bytes();
            let plain = without_colours(&bytes);
            if let Some(found) = plain.get(self.seen..).and_then(|rest| rest.find(text)) {
                self.seen += found + text.len();
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{text:?} is not on the screen:\n{plain}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the program's end; its exit code and the screen it leaves.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "it goes on:\n{}", screen(&self.bytes()));
            std::thread::sleep(Duration::from_millis(10));
        };
        // The last of its output may still be on its way from `script`.
        std::thread::sleep(Duration::from_millis(50));
        (status.code(), screen(&self.bytes()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes colours away.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(part.len() - 1);
        match part.as_bytes()[end] {
            b'm' => plain.push_str(&part[end + 1..]),
            _ => plain.extend(["\x1b[", part]),
        }
    }
    plain
}

/// What is on the screen in the end: a spinner's line that was cleared is not.
fn screen(text: &str) -> String {
    let mut lines = vec![Vec::new()];
    let mut column = 0;
    let text = without_colours(text).replace("\x1b[K", "\x00");
    for letter in text.chars() {
        let line: &mut Vec<char> = lines.last_mut().unwrap();
        match letter {
            '\n' => lines.push(Vec::new()),
            '\r' => column = 0,
            '\0' => line.truncate(column),
            '\x08' => column = column.saturating_sub(1),
            letter => {
                if column < line.len() {
                    line[column] = letter;
                } else {
                    line.push(letter);
                }
                column += 1;
            }
        }
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>());
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn bash(command: &str) -> Value {
    json!({"tool": "Bash", "input": {"command": command}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_asks_is_answered_where_it_is_asked() {
    let platform = Platform::start().await;
    let prompt = script(&json!([
        [{"text": "I need some files."}, bash("touch one && echo did one")],
        [bash("touch two")],
        [bash("touch three")],
        [bash("touch four")],
        [{"text": "All done."}]
    ]));
    let mut terminal = Terminal::open(&platform.cli(&["run", "--name", "ask", &prompt]), 100);
    terminal.expect("? Bash: touch one && echo did one");
    terminal.expect("Allow? [y]es · [a]lways · [n]o · [e]dit > ");
    terminal.keys("maybe\n");
    terminal.expect("Please type y (yes), n (no)");
    terminal.expect("> ");
    terminal.keys("y\n");
    terminal.expect("✔ allowed");
    terminal.expect("? Bash: touch two");
    terminal.expect("> ");
    terminal.keys("n\n");
    terminal.expect("What should it do instead? (Enter for nothing) > ");
    terminal.keys("two is enough\n");
    terminal.expect("✘ denied: two is enough");
    terminal.expect("? Bash: touch three");
    terminal.expect("> ");
    terminal.keys("n not that either\n");
    terminal.expect("✘ denied: not that either");
    terminal.expect("? Bash: touch four");
    terminal.expect("> ");
    terminal.keys("a\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("All done.\n✔ turn completed"), "{screen}");
    assert!(!screen.contains("the agent is thinking"), "the spinner is gone:\n{screen}");
    assert_eq!(screen.matches("two is enough").count(), 2, "typed, and said once:\n{screen}");
    let files = platform.run(&["exec", "ask", "--", "ls"]).await;
    assert_eq!(files.stdout, "four\none\n", "{files:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_number_and_an_input_in_an_editor() {
    let platform = Platform::start().await;
    let option = |label: &str| json!({"label": label, "description": "so they say"});
    let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false,
        "options": [option("red"), option("blue")]});
    let prompt = script(&json!([
        [{"tool": "AskUserQuestion", "input": {"questions": [question]}}],
        [bash("touch one && echo it was one")],
        [{"text": "Thanks."}]
    ]));
    let mut command = platform.cli(&["run", "--name", "q", &prompt]);
    command.env("EDITOR", "sed -i s/one/edited/g");
    let mut terminal = Terminal::open(&command, 100);
    terminal.expect("? Which colour?");
    terminal.expect("1. red  so they say");
    terminal.expect("A number, or your own words > ");
    terminal.keys("2\n");
    terminal.expect("? Bash: touch one");
    terminal.expect("> ");
    terminal.keys("e\n");
    terminal.expect("it was edited");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("\"Which colour?\"=\"blue\""), "{screen}");
    assert_eq!(platform.run(&["exec", "q", "--", "ls"]).await.stdout, "edited\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_interrupts_the_turn_and_the_session_takes_the_next() {
    let platform = Platform::start().await;
    let hang = script(&json!([[{"text": "Well …"}, bash("tail -f /dev/null")]]));
    let mut terminal =
        Terminal::open(&platform.cli(&["run", "--yolo", "--name", "hang", &hang]), 80);
    terminal.expect("● Bash: tail -f /dev/null");
    terminal.keys("\x03");
    terminal.expect("interrupting the turn … (Ctrl-C again leaves");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("■ turn interrupted"), "{screen}");
    let next = script(&json!([[{"text": "Still here."}]]));
    let mut terminal = Terminal::open(&platform.cli(&["attach", "hang"]), 80);
    terminal.expect("› ");
    terminal.expect("■ turn interrupted");
    terminal.expect("› ");
    terminal.keys(&format!("{next}\n"));
    terminal.expect("Still here.");
    terminal.expect("✔ turn completed");
    terminal.expect("› ");
    terminal.keys("/quit\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("left hang; it goes on without you"), "{screen}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_twice_leaves_the_session_running() {
    // An agent that takes no notice, so that the first Ctrl-C is not enough.
    let deaf = "#!/bin/sh\ntrap '' INT TERM\nwhile :; do sleep 1; done\n";
    let platform = Platform::start_with(Agent::Script(deaf), &[]).await;
    let mut terminal = Terminal::open(&platform.cli(&["run", "--name", "deaf", "hi"]), 80);
    terminal.expect("session deaf");
    platform
        .until("the turn has begun", || {
            let shown = platform.cli(&["show", "deaf", "--json"]).output().unwrap().stdout;
            let session: Option<Value> = serde_json::from_slice(&shown).ok();
            session.filter(|it| it["current_turn"]["state"] == "running")
        })
        .await;
    terminal.keys("\x03");
    terminal.expect("interrupting the turn …");
    terminal.keys("\x03");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(130), "{screen}");
    assert!(screen.contains("left deaf; it goes on without you"), "{screen}");
    assert!(screen.contains("rclaude attach deaf"), "{screen}");
    let session = platform.get("deaf").await;
    assert_ne!(session.status, SessionStatus::Deleted);
    assert!(session.current_turn.is_none_or(|turn| turn.state != TurnState::Queued));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_files_and_removals_are_asked_about() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("repo");
    let repo = repository(&dir, &[("a.txt", "a\n")]);
    git(&dir, &["status"]);
    std::fs::write(dir.join("new.txt"), "new\n").unwrap();
    for (answer, name, files) in [("y\n", "with", "a.txt\nnew.txt\n"), ("\n", "without", "a.txt\n")]
    {
        let start = platform.cli(&["start", "--repo", &repo, "--name", name]);
        let mut terminal = Terminal::open(&start, 100);
        terminal.expect("1 file is not committed in ");
        terminal.expect("Bring them along? [y/N] ");
        terminal.keys(answer);
        let (code, screen) = terminal.end();
        assert_eq!(code, Some(0), "{screen}");
        assert_eq!(platform.run(&["exec", name, "--", "ls"]).await.stdout, files);
    }
    let mut terminal = Terminal::open(&platform.cli(&["rm", "with", "without"]), 80);
    terminal.expect("Remove with with its files and its conversation? [y/N] ");
    terminal.keys("n\n");
    terminal.expect("kept with");
    terminal.expect("[y/N] ");
    terminal.keys("y\n");
    terminal.expect("removed without");
    assert_eq!(terminal.end().0, Some(0));
    let left = platform.run(&["ls", "--json"]).await.stdout;
    assert!(left.contains("\"with\"") && !left.contains("\"without\""), "{left}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_terminal_without_colours_is_kept_tidy() {
    let platform = Platform::start().await;
    let prompt = script(&json!([
        [bash("echo a command line that is far too long for this terminal; timeout 2 tail -f /dev/null")],
        [{"text": "Fine."}]
    ]));
    let mut command = platform.cli(&["run", "--yolo", "--name", "narrow", &prompt]);
    command.env("NO_COLOR", "1");
    let terminal = Terminal::open(&command, 40);
    let shown = Arc::clone(&terminal.shown);
    let (code, screen) = terminal.end();
    let bytes = String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(without_colours(&bytes), bytes, "there are no colours");
    let drawn = bytes.split(['\r', '\n']).filter(|line| line.contains('⠋') || line.contains('●'));
    let widest = drawn.map(|line| line.replace("\x1b[K", "").chars().count()).max();
    assert!(widest.is_some_and(|columns| columns <= 40), "{widest:?} columns:\n{screen}");
    assert!(!screen.contains('⠋') && screen.contains("Fine.\n✔ turn completed"), "{screen}");
    platform.end().await;
}

#[test]
fn a_server_is_offered_where_none_answers() {
    let server = Server::none();
    let mut terminal = Terminal::open(&server.home.rclaude(&["ls"]), 80);
    terminal.expect("No server answers at http://127.0.0.1:0/. Start one on this host? [y/N] ");
    terminal.keys("n\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(3), "{screen}");
    let mut terminal = Terminal::open(&server.home.rclaude(&["ls"]), 80);
    terminal.expect("[y/N] ");
    terminal.keys("y\n");
    terminal.expect("started a server at http://127.0.0.1:");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("no sessions; `rclaude run --repo . 'PROMPT'` makes one"), "{screen}");
    assert_eq!(server.home.run(&["status"]).code, Some(0));
}
