//! Answering what the agent asks, line by line: a pure machine from typed lines to a decision.
//!
//! The terminal stays in its ordinary mode, so that the question can be answered elsewhere (and
//! withdrawn here) while somebody is thinking, and Ctrl-C means what it always means.

use std::{collections::BTreeMap, fmt::Write};

use rclaude_types::{Approval, ApprovalKind, Decision, Question};

use super::{Paint, text::clean_line};

/// A question under way.
#[derive(Debug)]
pub(crate) struct Asking {
    approval: Approval,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Yes, no, …
    Choice,
    /// No; what instead?
    Message,
    /// The question after those answered so far.
    Questions(BTreeMap<String, String>),
}

/// What a typed line came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Ask on: see [`Asking::prompt`]; the text says why, where something was not understood.
    More(Option<String>),
    /// This is the answer.
    Decided(Decision),
    /// The input is to be edited; see [`Asking::edited`].
    Edit,
}

impl Asking {
    pub(crate) fn new(approval: Approval) -> Self {
        let step = match approval.kind {
            ApprovalKind::Question if !approval.questions.is_empty() => {
                Step::Questions(BTreeMap::new())
            }
            _ => Step::Choice,
        };
        Self { approval, step }
    }

    pub(crate) const fn approval(&self) -> &Approval {
        &self.approval
    }

    /// What to show before the next line is typed.
    pub(crate) fn prompt(&self, paint: Paint) -> String {
        match &self.step {
            Step::Choice => {
                let question = match self.approval.kind {
                    ApprovalKind::Plan => "Carry it out?",
                    _ => "Allow?",
                };
                let always = if self.approval.can_always { " · [a]lways" } else { "" };
                let choices = paint.dim(&format!("[y]es{always} · [n]o · [e]dit"));
                format!("{} {choices} > ", paint.bold(question))
            }
            Step::Message => "What should it do instead? (Enter for nothing) > ".to_owned(),
            Step::Questions(answers) => match self.open_question(answers) {
                Some(question) => self.ask_question(paint, question),
                None => String::new(),
            },
        }
    }

    /// Takes a typed line.
    pub(crate) fn answer(&mut self, line: &str) -> Reply {
        let line = line.trim();
        match &self.step {
            Step::Choice => self.choice(line),
            Step::Message => deny((!line.is_empty()).then(|| line.to_owned())),
            Step::Questions(answers) => match self.open_question(answers) {
                Some(question) => match choose(question, line) {
                    Ok(answer) => {
                        let mut answers = answers.clone();
                        answers.insert(question.question.clone(), answer);
                        self.answered(answers)
                    }
                    Err(why) => Reply::More(Some(why)),
                },
                None => self.answered(answers.clone()),
            },
        }
    }

    /// Takes the edited input.
    pub(crate) fn edited(text: &str) -> Reply {
        match serde_json::from_str(text) {
            Ok(input) => {
                Reply::Decided(Decision::Allow { always: false, input: Some(input), answers: None })
            }
            Err(error) => {
                Reply::More(Some(format!("that is not JSON ({error}); nothing was sent")))
            }
        }
    }

    fn choice(&mut self, line: &str) -> Reply {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let message = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
        match (word.to_lowercase().as_str(), message) {
            ("y" | "yes", None) => allow(false),
            ("a" | "always", None) if self.approval.can_always => allow(true),
            ("a" | "always", None) => {
                Reply::More(Some("\"always\" means nothing here; type y to allow it".to_owned()))
            }
            ("e" | "edit", None) => Reply::Edit,
            ("n" | "no", Some(message)) => deny(Some(message)),
            ("n" | "no", None) => {
                self.step = Step::Message;
                Reply::More(None)
            }
            _ => Reply::More(Some(
                "Please type y (yes), n (no), or n followed by what it should do instead"
                    .to_owned(),
            )),
        }
    }

    fn answered(&mut self, answers: BTreeMap<String, String>) -> Reply {
        if self.open_question(&answers).is_some() {
            self.step = Step::Questions(answers);
            return Reply::More(None);
        }
        Reply::Decided(Decision::Allow { always: false, input: None, answers: Some(answers) })
    }

    fn ask_question(&self, paint: Paint, question: &Question) -> String {
        let options = options(paint, question);
        // A lone question is its approval's title, which stands right above.
        if self.approval.questions.len() == 1 && self.approval.title == question.question {
            return options;
        }
        format!("{}\n{options}", paint.bold(&clean_line(&question.question)))
    }

    fn open_question(&self, answers: &BTreeMap<String, String>) -> Option<&Question> {
        self.approval.questions.iter().find(|question| !answers.contains_key(&question.question))
    }
}

const fn allow(always: bool) -> Reply {
    Reply::Decided(Decision::Allow { always, input: None, answers: None })
}

const fn deny(message: Option<String>) -> Reply {
    Reply::Decided(Decision::Deny { message, interrupt: false })
}

/// What to choose from, and how.
fn options(paint: Paint, question: &Question) -> String {
    let mut text = String::new();
    for (number, option) in (1..).zip(&question.options) {
        let description = if option.description.is_empty() {
            String::new()
        } else {
            paint.dim(&format!("  {}", clean_line(&option.description)))
        };
        let _ = writeln!(text, "  {number}. {}{description}", clean_line(&option.label));
    }
    let how = if question.multi_select {
        "Numbers (1,3), or your own words"
    } else {
        "A number, or your own words"
    };
    format!("{text}{how} > ")
}

/// The answer a line stands for: the labels of the numbers typed, or the words themselves.
fn choose(question: &Question, line: &str) -> Result<String, String> {
    if line.is_empty() {
        return Err("Please choose one".to_owned());
    }
    let words: Vec<_> =
        line.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()).collect();
    let numbers: Result<Vec<usize>, _> = words.iter().map(|word| word.parse()).collect();
    let Ok(numbers) = numbers else { return Ok(line.to_owned()) };
    if numbers.len() > 1 && !question.multi_select {
        return Err("Please choose one only".to_owned());
    }
    let labels: Option<Vec<_>> = numbers
        .iter()
        .map(|number| question.options.get(number.checked_sub(1)?))
        .map(|option| option.map(|option| option.label.as_str()))
        .collect();
    labels
        .map(|labels| labels.join(", "))
        .ok_or_else(|| format!("Please choose from 1 to {}", question.options.len()))
}

/// The commands that answer an approval from elsewhere, for those who cannot be asked here.
pub(crate) fn how_to_answer(session: &str, approval: &Approval) -> Vec<String> {
    let id = &approval.id;
    if approval.kind == ApprovalKind::Question {
        let answers: Vec<_> = approval
            .questions
            .iter()
            .map(|question| {
                let example =
                    question.options.first().map_or("…", |option| option.label.as_str());
                let pair = format!("{}={example}", question.question);
                format!(" --answer {}", quoted(&clean_line(&pair)))
            })
            .collect();
        return vec![
            format!("rclaude approve {session} {id}{}", answers.concat()),
            format!("rclaude deny {session} {id}"),
        ];
    }
    vec![
        format!("rclaude approve {session} {id}"),
        format!("rclaude deny {session} {id} --message '…'"),
    ]
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use rclaude_types::{ApprovalId, ApprovalState, QuestionOption, SessionId, Timestamp};
    use serde_json::json;

    use super::*;

    fn approval(kind: ApprovalKind, questions: Vec<Question>) -> Approval {
        Approval {
            id: ApprovalId::generate(),
            session: SessionId::generate(),
            turn: None,
            kind,
            state: ApprovalState::Pending,
            tool: "Bash".to_owned(),
            tool_call: None,
            title: "Run `make`".to_owned(),
            input: json!({ "command": "make" }),
            reason: None,
            questions,
            can_always: true,
            created_at: Timestamp::default(),
            resolved_at: None,
        }
    }

    fn question(text: &str, multi_select: bool) -> Question {
        let option =
            |label: &str| QuestionOption { label: label.into(), description: String::new() };
        Question {
            question: text.to_owned(),
            header: String::new(),
            options: vec![option("red"), option("blue")],
            multi_select,
        }
    }

    fn permission() -> Asking {
        Asking::new(approval(ApprovalKind::Permission, vec![]))
    }

    #[test]
    fn one_letter_answers_a_permission() {
        assert_eq!(permission().answer("y"), allow(false));
        assert_eq!(permission().answer("A"), allow(true));
        assert_eq!(permission().answer(" e "), Reply::Edit);
    }

    #[test]
    fn a_no_asks_what_instead_unless_that_was_said() {
        let mut asking = permission();
        assert_eq!(asking.answer("n"), Reply::More(None));
        assert_eq!(asking.answer("use ninja"), deny(Some("use ninja".to_owned())));
        let mut asking = permission();
        asking.answer("no");
        assert_eq!(asking.answer(""), deny(None));
        assert_eq!(permission().answer("n use ninja"), deny(Some("use ninja".to_owned())));
    }

    #[test]
    fn nothing_is_allowed_by_accident() {
        for line in ["", "yes please", "yy", "ok", "1"] {
            assert!(matches!(permission().answer(line), Reply::More(Some(_))), "{line}");
        }
        let mut asking = permission();
        asking.approval.can_always = false;
        assert!(matches!(asking.answer("a"), Reply::More(Some(_))));
    }

    #[test]
    fn questions_are_answered_one_after_another_by_number_or_in_words() {
        let questions = vec![question("Colour?", false), question("Which?", true)];
        let mut asking = Asking::new(approval(ApprovalKind::Question, questions));
        assert!(asking.prompt(Paint::new(false)).starts_with("Colour?\n  1. red\n  2. blue\n"));
        assert_eq!(asking.answer("3"), Reply::More(Some("Please choose from 1 to 2".to_owned())));
        assert_eq!(asking.answer("1,2"), Reply::More(Some("Please choose one only".to_owned())));
        assert_eq!(asking.answer("dark green"), Reply::More(None));
        let answers = [("Colour?", "dark green"), ("Which?", "red, blue")];
        let answers = answers.map(|(q, a)| (q.to_owned(), a.to_owned())).into();
        let decision = Decision::Allow { always: false, input: None, answers: Some(answers) };
        assert_eq!(asking.answer("1, 2"), Reply::Decided(decision));
    }

    #[test]
    fn an_edited_input_has_to_be_json() {
        assert!(matches!(Asking::edited("{oops"), Reply::More(Some(_))));
        let Reply::Decided(Decision::Allow { input, .. }) = Asking::edited(r#"{"command":"ls"}"#)
        else {
            panic!("not decided")
        };
        assert_eq!(input, Some(json!({ "command": "ls" })));
    }

    #[test]
    fn the_commands_for_elsewhere_can_be_pasted() {
        let mut question = approval(ApprovalKind::Question, vec![question("What's it?", false)]);
        question.id = "apr_0123456789abcdef0123456789abcdef".parse().unwrap();
        let [approve, _] = how_to_answer("otter", &question).try_into().unwrap();
        assert_eq!(
            approve,
            r"rclaude approve otter apr_0123456789abcdef0123456789abcdef --answer 'What'\''s it?=red'"
        );
    }
}
