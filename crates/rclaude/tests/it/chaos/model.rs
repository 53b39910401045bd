//! What must be true of a session, as plain values: nothing here talks to a server.
//!
//! Where a fault leaves open whether something happened, the model keeps every state that may be;
//! looking at the session leaves those that are. It allows nothing else: what was acknowledged is
//! in all of them.

use std::collections::BTreeMap;

use rclaude_types::{RewindScope, Seq};

/// A session's files and conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Files that commands wrote, by name, as lines.
    files: BTreeMap<String, Vec<String>>,
    /// How often the line of each prompt was written, at least and at most.
    written: BTreeMap<u32, (u8, u8)>,
    /// The prompts that the agent remembers; those that are not here it must not.
    heard: BTreeMap<u32, Heard>,
}

/// Whether the agent remembers a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Yes,
    Perhaps,
}

/// A change of a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Write,
    Append,
    Remove,
}

/// What is known of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was acknowledged.
    Done,
    /// It was refused, and may have been done, or half of it.
    Perhaps,
}

impl State {
    fn change(&self, file: &str, change: Change, line: &str) -> Self {
        let mut next = self.clone();
        match change {
            Change::Write => {
                next.files.insert(file.to_owned(), vec![line.to_owned()]);
            }
            Change::Append => next.files.entry(file.to_owned()).or_default().push(line.to_owned()),
            Change::Remove => {
                next.files.remove(file);
            }
        }
        next
    }

    fn emptied(&self, file: &str) -> Self {
        let mut next = self.clone();
        next.files.insert(file.to_owned(), Vec::new());
        next
    }

    /// Why what was seen is not this.
    fn differs(&self, seen: &Seen) -> Option<String> {
        if self.files != seen.files {
            return Some(format!("files are {:?}, not {:?}", seen.files, self.files));
        }
        for (prompt, times) in &seen.written {
            if !self.written.contains_key(prompt) {
                return Some(format!(
                    "prompt {prompt} wrote {times} lines that should not be here"
                ));
            }
        }
        self.written.iter().find_map(|(prompt, (least, most))| {
            let times = seen.written.get(prompt).copied().unwrap_or(0);
            (times < *least || times > *most)
                .then(|| format!("prompt {prompt} wrote {times} lines, not {least} to {most}"))
        })
    }
}

/// What a look at a session's files found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    files: BTreeMap<String, Vec<String>>,
    written: BTreeMap<u32, u8>,
}

impl Seen {
    /// The name of the file that prompts write to.
    pub(super) const PROMPTS: &str = "prompts";
    const HEAD: &str = "== ";

    /// A script that shows all files of the working directory's `c`.
    pub(super) const SCRIPT: &str =
        "for f in c/*; do if [ -f \"$f\" ]; then echo \"== ${f#c/}\"; cat \"$f\"; fi; done";

    /// Reads what [`SCRIPT`](Self::SCRIPT) prints.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut current = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(Self::HEAD) {
                current = Some(name.to_owned());
                files.insert(name.to_owned(), Vec::new());
            } else if let Some(name) = &current {
                files.get_mut(name).unwrap().push(line.to_owned());
            }
        }
        let mut written: BTreeMap<u32, u8> = BTreeMap::new();
        for line in files.remove(Self::PROMPTS).unwrap_or_default() {
            let prompt = line.parse().map_err(|_| format!("not a prompt's line: {line:?}"))?;
            *written.entry(prompt).or_default() += 1;
        }
        Ok(Self { files, written })
    }
}

/// A change in the past: after it, the session was in one of these states.
#[derive(Debug, Clone)]
struct Past {
    /// The log's end when it was not begun yet.
    from: Seq,
    /// The log's end when it was over.
    until: Seq,
    states: Vec<State>,
}

/// All that is known of one session.
#[derive(Debug, Clone)]
pub(super) struct Story {
    now: Vec<State>,
    past: Vec<Past>,
}

impl Story {
    /// A session that begins in one of these states.
    pub(super) fn new(states: Vec<State>) -> Self {
        let past = vec![Past { from: 0, until: 0, states: states.clone() }];
        Self { now: states, past }
    }

    /// How it began.
    pub(super) fn origin(&self) -> Vec<State> {
        self.past[0].states.clone()
    }

    fn set(&mut self, mut states: Vec<State>, from: Seq, until: Seq) {
        let mut unique: Vec<State> = Vec::new();
        states.retain(|state| {
            !unique.contains(state) && {
                unique.push(state.clone());
                true
            }
        });
        self.now.clone_from(&states);
        self.past.push(Past { from, until, states });
    }

    /// A command changed a file, while the log grew from `from` to `until`.
    pub(super) fn changed(
        &mut self,
        (file, change, line): (&str, Change, &str),
        known: Known,
        (from, until): (Seq, Seq),
    ) {
        let mut states: Vec<_> =
            self.now.iter().map(|state| state.change(file, change, line)).collect();
        if known == Known::Perhaps {
            // A disk that is full takes a file's beginning and not its content.
            states.extend(self.now.iter().map(|state| state.emptied(file)));
            states.extend(self.now.iter().cloned());
        }
        self.set(states, from, until);
    }

    /// A prompt was taken: its line may be written from now on.
    pub(super) fn prompted(&mut self, prompt: u32, from: Seq, until: Seq) {
        let mut states = self.now.clone();
        for state in &mut states {
            state.written.insert(prompt, (0, 1));
            state.heard.insert(prompt, Heard::Perhaps);
        }
        self.set(states, from, until);
    }

    /// A prompt that nothing came in the way of was carried out.
    pub(super) fn carried_out(&mut self, prompt: u32) {
        for state in &mut self.now {
            state.written.insert(prompt, (1, 1));
            state.heard.insert(prompt, Heard::Yes);
        }
    }

    /// Something came in the way of a prompt. Its command may have been cut off before it wrote,
    /// or after; and the agent, which does not know, may have run it again.
    pub(super) fn disturbed(&mut self, prompt: u32, most: u8) {
        for state in &mut self.now {
            let (least, _) = state.written.get(&prompt).copied().unwrap_or((0, 0));
            state.written.insert(prompt, (least, most));
        }
    }

    /// The session was looked at. Prompts of `open` may write yet.
    pub(super) fn seen(&mut self, seen: &Seen, open: &[u32]) -> Result<(), String> {
        let reasons: Vec<_> = self.now.iter().filter_map(|state| state.differs(seen)).collect();
        if reasons.len() == self.now.len() {
            return Err(reasons.join("; or "));
        }
        self.now.retain(|state| state.differs(seen).is_none());
        for state in &mut self.now {
            for (prompt, (least, most)) in &mut state.written {
                let times = seen.written.get(prompt).copied().unwrap_or(0);
                *least = times;
                if !open.contains(prompt) {
                    *most = times;
                }
            }
        }
        Ok(())
    }

    /// The states that a checkpoint may be of which the log says at `created` that it includes
    /// what was there at `seq`.
    pub(super) fn at(&self, seq: Seq, created: Seq) -> Vec<State> {
        // What was over before is in it, and what was begun after it was made is not.
        let first = self.past.iter().rposition(|past| past.until < seq).unwrap_or(0);
        let possible = self.past[first..].iter().enumerate();
        let possible = possible.filter(|(place, past)| *place == 0 || past.from < created);
        possible.flat_map(|(_, past)| past.states.clone()).collect()
    }

    /// The states that what the log tells of at `seq` led to.
    pub(super) fn made(&self, seq: Seq) -> Vec<State> {
        self.past
            .iter()
            .find(|past| past.until >= seq)
            .map_or_else(Vec::new, |past| past.states.clone())
    }

    /// It was taken back to one of these states; prompts of `open` were under way or waited.
    pub(super) fn rewound(
        &mut self,
        to: &[State],
        scope: RewindScope,
        open: &[u32],
        (from, until): (Seq, Seq),
    ) {
        let mut states = Vec::new();
        for past in to {
            for now in &self.now {
                let mut next = match scope {
                    RewindScope::All => past.clone(),
                    RewindScope::Files => State { heard: now.heard.clone(), ..past.clone() },
                    RewindScope::Conversation => State { heard: past.heard.clone(), ..now.clone() },
                };
                for prompt in open {
                    let (least, most) = next.written.get(prompt).copied().unwrap_or((0, 0));
                    next.written.insert(*prompt, (least, most + 1));
                    next.heard.insert(*prompt, Heard::Perhaps);
                }
                states.push(next);
            }
        }
        self.set(states, from, until);
    }

    /// Which of these prompts the agent must remember, and which it must not.
    pub(super) fn memory(&self) -> impl Fn(u32) -> Option<bool> + '_ {
        |prompt| {
            let heard: Vec<_> = self.now.iter().map(|state| state.heard.get(&prompt)).collect();
            match heard.as_slice() {
                all if all.iter().all(|heard| *heard == Some(&Heard::Yes)) => Some(true),
                all if all.iter().all(Option::is_none) => Some(false),
                _ => None,
            }
        }
    }

    /// The agent lost its conversation, and its owner was told.
    pub(super) fn forgot(&mut self) {
        for state in &mut self.now {
            state.heard.values_mut().for_each(|heard| *heard = Heard::Perhaps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        Seen::read(text).unwrap()
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_not_may_be() {
        let mut story = Story::new(vec![State::default()]);
        story.changed(("a", Change::Append, "1"), Known::Done, (1, 2));
        assert!(story.clone().seen(&seen(""), &[]).is_err());
        assert!(story.clone().seen(&seen("== a\n1\n1\n"), &[]).is_err());
        story.changed(("a", Change::Append, "2"), Known::Perhaps, (2, 3));
        assert!(story.clone().seen(&seen("== a\n1\n"), &[]).is_ok());
        story.seen(&seen("== a\n1\n2\n"), &[]).unwrap();
        assert!(story.seen(&seen("== a\n1\n"), &[]).is_err(), "it was there");
    }

    #[test]
    fn a_prompt_that_nothing_came_in_the_way_of_wrote_once() {
        let mut story = Story::new(vec![State::default()]);
        story.prompted(1, 1, 2);
        assert!(story.clone().seen(&seen(""), &[1]).is_ok());
        story.carried_out(1);
        assert!(story.clone().seen(&seen(""), &[]).is_err());
        assert!(story.clone().seen(&seen("== prompts\n1\n1\n"), &[]).is_err());
        assert!(story.clone().seen(&seen("== prompts\n1\n2\n"), &[]).is_err());
        assert!(story.seen(&seen("== prompts\n1\n"), &[]).is_ok());
    }

    #[test]
    fn a_checkpoint_is_of_a_state_between_its_two_places_in_the_log() {
        let mut story = Story::new(vec![State::default()]);
        story.changed(("a", Change::Write, "1"), Known::Done, (1, 3));
        story.changed(("a", Change::Write, "2"), Known::Done, (5, 7));
        story.changed(("a", Change::Write, "3"), Known::Done, (9, 11));
        let at = |seq, created| story.at(seq, created).len();
        assert_eq!(at(4, 5), 1, "after the first and before the second was begun");
        assert_eq!(at(4, 6), 2, "the second was under way");
        assert_eq!(at(3, 5), 2, "the first may not have been over");
        assert_eq!(at(12, 20), 1);
    }
}
