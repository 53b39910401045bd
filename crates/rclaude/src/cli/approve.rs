//! `rclaude approve`: yes to what the agent asks.

use std::collections::BTreeMap;

use clap::Args;
use rclaude_types::{Approval, ApprovalId, ApprovalKind, Decision, ErrorCode, Problem};
use serde_json::Value;

use super::{Context, Done};
use crate::{
    client::Client,
    exit::{Exit, Failure},
    ui::clean_line,
};

/// Allow what the agent asks, or answer its question
///
/// Without ID: the oldest that waits. With --json: the approval as it is then.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The session: id, unique start of an id, or name
    session: String,
    /// Which of its approvals [default: the oldest that waits]
    #[arg(value_parser = clap::value_parser!(ApprovalId))]
    id: Option<ApprovalId>,
    /// Do not ask again for the like
    #[arg(long)]
    always: bool,
    /// Run it with this input instead
    #[arg(long, value_name = "JSON", value_parser = json, conflicts_with = "answer")]
    input: Option<Value>,
    /// The answer to a question: `QUESTION=ANSWER`, or just the answer where one is asked
    #[arg(long, value_name = "ANSWER")]
    answer: Vec<String>,
}

pub(crate) async fn run(args: ApproveArgs, cx: &mut Context) -> Done {
    let client = cx.client().await?;
    let (id, answers) = match args.id {
        // Nothing to look up: the server knows whether it can still be answered.
        Some(id) if args.answer.is_empty() => (id, None),
        id => {
            let approval = choose(cx, &client, &args.session, id.as_ref()).await?;
            let answers = answers(&approval, &args.answer)?;
            (approval.id, answers)
        }
    };
    let decision = Decision::Allow { always: args.always, input: args.input, answers };
    decide(cx, &client, &args.session, &id, &decision, "allowed").await
}

/// Sends a decision and says what was decided.
pub(super) async fn decide(
    cx: &mut Context,
    client: &Client,
    session: &str,
    id: &ApprovalId,
    decision: &Decision,
    word: &str,
) -> Done {
    let deciding = client.decide(session, id, decision);
    let decided = cx.ui.wait("sending the answer", deciding).await?;
    if cx.json {
        cx.ui.json(&decided.raw)?;
    } else {
        cx.ui.say(&format!("{word}: {}", clean_line(&decided.title)));
    }
    Ok(Exit::OK)
}

/// The approval that is meant: the one named, or the oldest that waits.
pub(super) async fn choose(
    cx: &mut Context,
    client: &Client,
    session: &str,
    id: Option<&ApprovalId>,
) -> Result<Approval, Failure> {
    let asking = client.approvals(session);
    let mut pending = cx.ui.wait("asking what the agent waits for", asking).await?.value.data;
    pending.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    if pending.len() > 1 && id.is_none() {
        cx.ui.note(&format!("{} wait; this is about the oldest:", pending.len()));
        for approval in &pending {
            cx.ui.note(&format!("  {}  {}", approval.id, clean_line(&approval.title)));
        }
    }
    let found = pending.into_iter().find(|approval| id.is_none_or(|id| approval.id == *id));
    found.ok_or_else(|| {
        let detail = match id {
            Some(id) => format!("{session} does not wait for {id}; was it answered already?"),
            None => format!("{session} does not wait for anything"),
        };
        Failure::Problem(Problem::new(ErrorCode::ApprovalNotFound, detail))
    })
}

/// Answers by question, where there are questions.
fn answers(
    approval: &Approval,
    given: &[String],
) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let questions: Vec<_> = approval.questions.iter().map(|q| q.question.as_str()).collect();
    if approval.kind != ApprovalKind::Question {
        return if given.is_empty() {
            Ok(None)
        } else {
            Err(Failure::Usage(format!("{} asks no question", approval.id)))
        };
    }
    let mut answers = BTreeMap::new();
    for text in given {
        // A question may contain `=` itself, so it is looked for by its whole text first.
        let named = questions.iter().find_map(|question| {
            let answer = text.strip_prefix(question)?.strip_prefix('=')?;
            Some(((*question).to_owned(), answer.to_owned()))
        });
        match (named, questions.as_slice()) {
            (Some((question, answer)), _) => answers.insert(question, answer),
            (None, [only]) => answers.insert((*only).to_owned(), text.clone()),
            (None, _) => {
                return Err(Failure::Usage(format!(
                    "`{text}` answers none of the questions; say --answer 'QUESTION=ANSWER' for {}",
                    questions.join(" and ")
                )));
            }
        };
    }
    let missing: Vec<_> =
        questions.iter().filter(|q| !answers.contains_key(**q)).map(|q| format!("`{q}`")).collect();
    if missing.is_empty() {
        Ok(Some(answers))
    } else {
        Err(Failure::Usage(format!("--answer is missing for {}", missing.join(", "))))
    }
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use rclaude_types::{ApprovalState, Question, SessionId, Timestamp};

    use super::*;

    fn asking(questions: &[&str]) -> Approval {
        let question = |text: &&str| Question {
            question: (*text).to_owned(),
            header: String::new(),
            options: vec![],
            multi_select: false,
        };
        Approval {
            id: ApprovalId::generate(),
            session: SessionId::generate(),
            turn: None,
            kind: ApprovalKind::Question,
            state: ApprovalState::Pending,
            tool: "AskUserQuestion".to_owned(),
            tool_call: None,
            title: "asks".to_owned(),
            input: Value::Null,
            reason: None,
            questions: questions.iter().map(question).collect(),
            can_always: false,
            created_at: Timestamp::default(),
            resolved_at: None,
        }
    }

    fn read(questions: &[&str], given: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        answers(&asking(questions), &given)
            .map(Option::unwrap_or_default)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn one_question_takes_a_bare_answer_even_one_with_an_equals_sign() {
        let answers = read(&["Which flag?"], &["a=b"]).unwrap();
        assert_eq!(answers["Which flag?"], "a=b");
    }

    #[test]
    fn several_questions_are_answered_by_name_and_all_of_them() {
        let questions = ["x=1 or x=2?", "Why?"];
        let answers = read(&questions, &["x=1 or x=2?=x=1", "Why?=because"]).unwrap();
        assert_eq!(answers["x=1 or x=2?"], "x=1");
        assert!(read(&questions, &["Why?=because"]).unwrap_err().contains("`x=1 or x=2?`"));
        assert!(read(&questions, &["because"]).unwrap_err().contains("none of the questions"));
    }
}
