//! Following a session on its user's behalf: showing what happens, asking what the agent asks,
//! passing on Ctrl-C and typed prompts.
//!
//! One loop waits for four things: the log, Ctrl-C, a typed line, the clock that turns the
//! spinner. What the agent waits for is known from the log alone, so that an answer given
//! elsewhere ends the question here.

mod edit;
mod state;

use std::pin::pin;

use futures::{FutureExt, StreamExt};
use rclaude_types::{CreateTurn, EventBody, Seq, Session, TurnId, TurnOutcome};
use tokio::signal::unix::{SignalKind, signal};

use self::state::{State, waits_for};
use crate::{
    cli::Context,
    client::{Client, Entry, Progress, follow},
    exit::Failure,
    ui::{self, Asking, Renderer, Reply},
};

/// What to follow, and until when.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The last entry that need not be seen.
    pub(crate) after: Seq,
    /// The last entry that is history.
    pub(crate) history: Seq,
    /// Stop when this turn is over; otherwise go on until the user leaves.
    pub(crate) until: Option<TurnId>,
    /// Take typed lines as prompts.
    pub(crate) prompts: bool,
    /// A prompt that its sender need not be told of.
    pub(crate) own_prompt: Option<String>,
}

/// Why following stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The turn is over.
    Turn(TurnOutcome),
    /// The user left; the session goes on.
    Left,
    /// The session is no more.
    Deleted,
}

struct Conversation<'a> {
    cx: &'a mut Context,
    client: &'a Client,
    name: &'a str,
    plan: Plan,
    state: State,
    renderer: Renderer,
    asking: Option<Asking>,
    /// Lines can be read; not after the end of input.
    listening: bool,
}

/// Follows a session until the plan is done.
pub(crate) async fn run(
    cx: &mut Context,
    client: &Client,
    session: &Session,
    plan: Plan,
) -> Result<End, Failure> {
    let mut renderer = cx.ui.renderer(cx.verbose);
    renderer.call(&session.name);
    if let Some(prompt) = &plan.own_prompt {
        renderer.hide_prompt(prompt);
    }
    if plan.history > plan.after {
        renderer.replay();
    }
    let mut events = pin!(follow(client, session.id.as_str(), plan.after));
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut ticks = tokio::time::interval(ui::TICK);
    let listening = cx.ui.can_ask() && !cx.json;
    let state = State::new(session, plan.history, plan.until.is_some());
    let mut talk = Conversation {
        cx,
        client,
        name: &session.name,
        plan,
        state,
        renderer,
        asking: None,
        listening,
    };
    loop {
        talk.ask()?;
        let reads = talk.listening && (talk.asking.is_some() || talk.plan.prompts);
        let end = tokio::select! {
            biased;
            _ = interrupts.recv() => talk.interrupt().await?,
            progress = events.next() => match progress {
                Some(progress) => talk.progress(progress?)?,
                None => Some(End::Deleted),
            },
            line = talk.cx.ui.line(), if reads => {
                let end = talk.line(line).await?;
                // An editor had the terminal: a Ctrl-C typed into it was not meant for us.
                if talk.state.edited() {
                    while interrupts.recv().now_or_never().flatten().is_some() {}
                }
                end
            }
            _ = ticks.tick() => {
                talk.cx.ui.tick();
                None
            }
        };
        if let Some(end) = end {
            talk.cx.ui.waiting_for(None);
            let rest = talk.renderer.close();
            talk.cx.ui.show(rest)?;
            return Ok(end);
        }
    }
}

impl Conversation<'_> {
    fn progress(&mut self, progress: Progress) -> Result<Option<End>, Failure> {
        match progress {
            Progress::Entry(entry) => self.entry(&entry),
            Progress::Restored => {
                if self.state.restored() {
                    self.cx.ui.note("connected again");
                }
                self.cx.ui.waiting_for(self.state.waits());
                Ok(None)
            }
            Progress::Lost { reason, attempt, wait } => {
                // The first attempt is made so soon that most never notice.
                if attempt == 2 {
                    self.state.said_lost();
                    let rest = self.renderer.close();
                    self.cx.ui.show(rest)?;
                    self.cx.ui.note(&format!("connection lost ({reason}); the session goes on"));
                }
                let what = format!(
                    "reconnecting to {} (attempt {attempt}, waiting {:.1}s)",
                    self.client.url(),
                    wait.as_secs_f32()
                );
                self.cx.ui.waiting_for(Some(&what));
                Ok(None)
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<Option<End>, Failure> {
        let Some(event) = &entry.event else {
            if self.cx.json {
                self.cx.ui.print(entry.raw.get())?;
            }
            return Ok(None);
        };
        if self.state.take(event)
            && let Some(asking) = &self.asking
            && !self.state.is_pending(&asking.approval().id)
        {
            self.asking = None;
        }
        if let Some(what) = waits_for(&event.body) {
            self.state.wait_for(what);
        }
        if self.cx.json {
            self.cx.ui.print(entry.raw.get())?;
        } else {
            let pieces = self.renderer.event(event);
            if !pieces.is_empty() {
                self.state.mark_used();
            }
            self.cx.ui.show(pieces)?;
        }
        if entry.seq >= self.plan.history {
            let pieces = self.renderer.caught_up();
            self.cx.ui.show(pieces)?;
        }
        self.cx.ui.waiting_for(self.state.waits());
        Ok(match (&event.body, &self.plan.until) {
            (EventBody::TurnEnded { outcome, .. }, Some(turn))
                if event.turn.as_ref() == Some(turn) =>
            {
                Some(End::Turn(*outcome))
            }
            _ => None,
        })
    }

    /// Puts the next question, or says how it is answered from elsewhere; invites a prompt when
    /// there is nothing else to do.
    fn ask(&mut self) -> Result<(), Failure> {
        if !self.state.is_live() {
            return Ok(());
        }
        if self.asking.is_none()
            && let Some(approval) = self.state.next_question()
        {
            let rest = self.renderer.close();
            self.cx.ui.show(rest)?;
            if self.listening {
                let asking = Asking::new(approval);
                let prompt = asking.prompt(self.cx.ui.err());
                self.cx.ui.prompt(&prompt);
                self.asking = Some(asking);
            } else if self.state.say_how(&approval.id) {
                self.cx.ui.say("  the agent waits for an answer; type one of");
                for command in ui::how_to_answer(self.name, &approval) {
                    self.cx.ui.say(&format!("    {command}"));
                }
            }
        }
        if self.asking.is_none() && self.plan.prompts && self.listening && self.state.invite() {
            let mark = self.cx.ui.err().bold("› ");
            self.cx.ui.prompt(&mark);
        }
        Ok(())
    }

    async fn line(&mut self, line: Option<String>) -> Result<Option<End>, Failure> {
        let Some(line) = line else {
            self.listening = false;
            self.asking = None;
            return Ok(self.plan.prompts.then_some(End::Left));
        };
        match self.asking.take() {
            Some(mut asking) => {
                let reply = asking.answer(&line);
                self.reply(asking, reply).await?;
                Ok(None)
            }
            None => self.typed(line.trim()).await,
        }
    }

    async fn reply(&mut self, asking: Asking, reply: Reply) -> Result<(), Failure> {
        let reply = match reply {
            Reply::Edit => {
                self.state.set_edited();
                let input = serde_json::to_string_pretty(&asking.approval().input)
                    .unwrap_or_else(|_| "{}".to_owned());
                match edit::edit(&self.cx.settings.environment, &input).await {
                    Ok(text) => Asking::edited(&text),
                    Err(failure) => Reply::More(Some(failure.to_string())),
                }
            }
            other => other,
        };
        match reply {
            Reply::Decided(decision) => {
                let id = asking.approval().id.clone();
                let deciding = self.client.decide(self.name, &id, &decision);
                match self.cx.ui.wait("sending the answer", deciding).await {
                    // The log says what became of it.
                    Ok(_) => self.state.answered(&id),
                    Err(failure @ Failure::Problem(_)) => {
                        self.cx.ui.failure(&failure, false);
                        self.state.answered(&id);
                    }
                    Err(failure) => {
                        self.cx.ui.failure(&failure, false);
                        self.ask_again(asking);
                    }
                }
            }
            Reply::More(why) => {
                if let Some(why) = why {
                    self.cx.ui.say(&why);
                }
                self.ask_again(asking);
            }
            Reply::Edit => {}
        }
        Ok(())
    }

    fn ask_again(&mut self, asking: Asking) {
        let prompt = asking.prompt(self.cx.ui.err());
        self.cx.ui.prompt(&prompt);
        self.asking = Some(asking);
    }

    /// A line that was typed while nothing was asked.
    async fn typed(&mut self, line: &str) -> Result<Option<End>, Failure> {
        self.state.mark_used();
        let (text, steer) = match line {
            "" => return Ok(None),
            "/quit" | "/detach" => return Ok(Some(End::Left)),
            "/interrupt" => return self.interrupt().await,
            _ => match line.strip_prefix("/steer ") {
                Some(text) => (text.trim(), true),
                None => (line, false),
            },
        };
        let turn = CreateTurn { text: text.to_owned(), steer };
        let sending = self.client.create_turn(self.name, &turn);
        match self.cx.ui.wait("sending the prompt", sending).await {
            Ok(_) => {
                self.renderer.hide_prompt(text);
                if self.state.is_working() && !steer {
                    self.cx.ui.note("queued; it begins when this turn is over");
                }
                self.state.expect_turn();
            }
            Err(failure) => self.cx.ui.failure(&failure, false),
        }
        self.cx.ui.waiting_for(self.state.waits());
        Ok(None)
    }

    /// Once stops the turn, twice leaves it running.
    async fn interrupt(&mut self) -> Result<Option<End>, Failure> {
        if !self.state.is_working() || self.state.interrupting() {
            return Ok(Some(End::Left));
        }
        let rest = self.renderer.close();
        self.cx.ui.show(rest)?;
        self.asking = None;
        let again = "Ctrl-C again leaves the session without waiting";
        self.cx.ui.say(&format!("interrupting the turn … ({again})"));
        if let Err(failure) = self.client.session_verb(self.name, "interrupt").await {
            self.cx.ui.failure(&failure, false);
        }
        self.cx.ui.waiting_for(self.state.waits());
        Ok(None)
    }
}

/// Says how to come back to a session that was left.
pub(crate) fn say_left(cx: &mut Context, name: &str) {
    cx.ui.say(&format!("left {name}; it goes on without you. Come back with"));
    cx.ui.say(&format!("  rclaude attach {name}"));
}
