//! Checkpoints: wanted, sealed, found again, and forgotten; what a rewind does to turns.

use rclaude_store::{
    StoreError,
    checkpoint::{self, CheckpointState, NewCheckpoint, Position, SealedCheckpoint, Sequel},
    event, sandbox, turn,
};
use rclaude_types::{
    CheckpointId, CheckpointKind, EventBody, Generation, LayerId, Phase, RewindScope, SandboxId,
    SealMethod, Seq, SessionId, TurnId,
};

use crate::support::{Home, at, notice};

fn new(session: &SessionId, kind: CheckpointKind) -> NewCheckpoint {
    NewCheckpoint {
        id: CheckpointId::generate(),
        session: session.clone(),
        kind,
        note: None,
        sequel: None,
        layer: LayerId::generate(),
        at: at(1),
    }
}

fn sealed(new: &NewCheckpoint, sandbox: &SandboxId, seq: Seq) -> SealedCheckpoint {
    SealedCheckpoint {
        seq,
        turn: None,
        sandbox: sandbox.clone(),
        stack: vec![new.layer.clone()],
        position: Position { conversation: Some("talk".to_owned()), ..Position::default() },
        method: SealMethod::Reflink,
        bytes: 4_096,
        frozen_micros: 900,
    }
}

/// A sealed checkpoint of a sandbox, at a position of the log.
async fn kept(
    home: &Home,
    session: &SessionId,
    sandbox: &SandboxId,
    kind: CheckpointKind,
    seq: Seq,
) -> CheckpointId {
    let new = new(session, kind);
    let sealed = sealed(&new, sandbox, seq);
    let id = new.id.clone();
    home.write(async move |tx| checkpoint::insert_sealed(tx, &new, &sealed).await).await;
    id
}

#[tokio::test]
async fn a_checkpoint_is_wanted_then_sealed_once_and_says_all_it_was_told() {
    let home = Home::new().await;
    let session = home.session().await;
    let machine = home.sandbox(&session).await;
    let sequel = Sequel::Rewind { to: None, scope: RewindScope::Conversation };
    let new = NewCheckpoint {
        note: Some("before \0 the move".to_owned()),
        sequel: Some(sequel.clone()),
        ..new(&session, CheckpointKind::Manual)
    };
    let asked = new.clone();
    home.write(async move |tx| checkpoint::want(tx, &asked).await).await;
    let mut conn = home.store.read().await.unwrap();
    let wanted = checkpoint::wanted(&mut conn, &session).await.unwrap().unwrap();
    assert_eq!((wanted.state, wanted.sequel), (CheckpointState::Wanted, Some(sequel)));
    assert_eq!(
        checkpoint::wanted_layers(&mut conn).await.unwrap(),
        std::slice::from_ref(&new.layer)
    );
    // What is not made yet is not there.
    assert!(checkpoint::list(&mut conn, &session, None, 9).await.unwrap().is_empty());
    assert_eq!(checkpoint::latest_id(&mut conn, &session).await.unwrap(), None);

    let turn = home.turn(&session).await;
    let lower = LayerId::generate();
    let taken = SealedCheckpoint {
        turn: Some(turn.clone()),
        stack: vec![new.layer.clone(), lower.clone()],
        position: Position {
            undone: vec![2, 3],
            stdout_offset: 77,
            generation: Generation(5),
            ..Position::default()
        },
        ..sealed(&new, &machine, 12)
    };
    let (id, made) = (new.id.clone(), taken.clone());
    let row = home.write(async move |tx| checkpoint::seal(tx, &id, &made).await).await;
    assert_eq!((row.state, row.sequel.clone()), (CheckpointState::Sealed, None));
    assert_eq!(row.checkpoint.note.as_deref(), Some("before \0 the move"));
    assert_eq!((row.checkpoint.seq, row.checkpoint.turn.clone()), (12, Some(turn)));
    assert_eq!((row.checkpoint.method, row.checkpoint.bytes), (SealMethod::Reflink, 4_096));
    assert_eq!(
        (row.stack.clone(), &row.position),
        (vec![new.layer.clone(), lower], &taken.position)
    );
    assert!(!row.checkpoint.stored);
    assert_eq!(checkpoint::latest(&mut conn, &session).await.unwrap(), Some(row));

    let (id, made) = (new.id.clone(), taken.clone());
    let again = home.refused(async move |tx| checkpoint::seal(tx, &id, &made).await).await;
    assert!(matches!(again, StoreError::Conflict(_)), "{again:?}");
    assert!(checkpoint::wanted(&mut conn, &session).await.unwrap().is_none());
}

#[tokio::test]
async fn one_that_cannot_be_made_says_why_and_stands_in_nobodys_way() {
    let home = Home::new().await;
    let session = home.session().await;
    let machine = home.sandbox(&session).await;
    let (first, second) =
        (new(&session, CheckpointKind::Turn), new(&session, CheckpointKind::Manual));
    let asked = [first.clone(), second.clone()];
    home.write(async move |tx| {
        for new in &asked {
            checkpoint::want(tx, new).await?;
        }
        Ok(())
    })
    .await;
    let mut conn = home.store.read().await.unwrap();
    let oldest = checkpoint::wanted(&mut conn, &session).await.unwrap().unwrap();
    assert_eq!(oldest.checkpoint.id, first.id);
    let id = first.id.clone();
    home.write(async move |tx| checkpoint::fail(tx, &id, "no room").await).await;
    let failed = checkpoint::get(&mut conn, &first.id).await.unwrap();
    assert_eq!(
        (failed.state, failed.failure.as_deref()),
        (CheckpointState::Failed, Some("no room"))
    );
    let next = checkpoint::wanted(&mut conn, &session).await.unwrap().unwrap();
    assert_eq!(next.checkpoint.id, second.id);
    let (id, late) = (first.id.clone(), sealed(&first, &machine, 1));
    let refused = home.refused(async move |tx| checkpoint::seal(tx, &id, &late).await).await;
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused:?}");
    // What is made does not fail any more.
    let (id, made) = (second.id.clone(), sealed(&second, &machine, 1));
    home.write(async move |tx| {
        checkpoint::seal(tx, &id, &made).await?;
        checkpoint::fail(tx, &id, "too late").await
    })
    .await;
    let made = checkpoint::get(&mut conn, &second.id).await.unwrap();
    assert_eq!((made.state, made.failure), (CheckpointState::Sealed, None));
}

#[tokio::test]
async fn a_list_is_read_page_by_page_newest_first_and_holds_ones_own_alone() {
    let home = Home::new().await;
    let (session, other) = (home.session().await, home.session().await);
    let machine = home.sandbox(&session).await;
    let mut made = Vec::new();
    for seq in 1..=5 {
        made.push(kept(&home, &session, &machine, CheckpointKind::Turn, seq).await);
        kept(&home, &other, &machine, CheckpointKind::Turn, seq).await;
    }
    made.reverse();
    let mut conn = home.store.read().await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = checkpoint::list(&mut conn, &session, before.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.checkpoint.id.clone());
        seen.extend(page.into_iter().map(|row| row.checkpoint.id));
    }
    assert_eq!(seen, made);
    assert_eq!(checkpoint::latest_id(&mut conn, &session).await.unwrap().as_ref(), made.first());
}

#[tokio::test]
async fn the_state_before_a_position_of_the_log_is_the_newest_that_includes_nothing_of_it() {
    let home = Home::new().await;
    let session = home.session().await;
    let machine = home.sandbox(&session).await;
    let first = kept(&home, &session, &machine, CheckpointKind::Turn, 10).await;
    let second = kept(&home, &session, &machine, CheckpointKind::Turn, 20).await;
    let again = kept(&home, &session, &machine, CheckpointKind::Manual, 20).await;
    let mut conn = home.store.read().await.unwrap();
    for (seq, wanted) in
        [(10, None), (11, Some(&first)), (20, Some(&first)), (21, Some(&again)), (99, Some(&again))]
    {
        let found = checkpoint::before(&mut conn, &session, seq).await.unwrap();
        assert_eq!(found.as_ref().map(|row| &row.checkpoint.id), wanted, "before {seq}");
    }
    assert_ne!(second, again);
}

#[tokio::test]
async fn only_automatic_ones_beyond_the_newest_few_are_too_many() {
    use CheckpointKind::{Archive, Fork, Interval, Manual, Origin, Rewind, Turn};
    let home = Home::new().await;
    let session = home.session().await;
    let machine = home.sandbox(&session).await;
    let mut made = Vec::new();
    for (seq, kind) in
        (1..).zip([Origin, Turn, Manual, Interval, Rewind, Archive, Fork, Turn, Manual])
    {
        made.push((kind, kept(&home, &session, &machine, kind, seq).await));
    }
    let mut conn = home.store.read().await.unwrap();
    let surplus = checkpoint::surplus(&mut conn, &session, 2).await.unwrap();
    let kinds: Vec<_> = surplus.iter().map(|row| row.checkpoint.kind).collect();
    assert_eq!(kinds, [Archive, Interval, Turn]);
    assert!(kinds.iter().all(|kind| kind.is_automatic()));
    assert_eq!(checkpoint::surplus(&mut conn, &session, 50).await.unwrap(), []);
    let gone: Vec<_> = surplus.into_iter().map(|row| row.checkpoint.id).collect();
    let removed = gone.clone();
    home.write(async move |tx| {
        for id in &removed {
            checkpoint::remove(tx, id).await?;
        }
        Ok(())
    })
    .await;
    let left = checkpoint::list(&mut conn, &session, None, 99).await.unwrap();
    assert_eq!(left.len(), made.len() - gone.len());
}

#[tokio::test]
async fn layers_are_kept_by_checkpoints_and_sandboxes_and_known_once_they_are_stored() {
    let home = Home::new().await;
    let session = home.session().await;
    let machine = home.sandbox(&session).await;
    let id = kept(&home, &session, &machine, CheckpointKind::Turn, 1).await;
    let mut conn = home.store.read().await.unwrap();
    let unstored = checkpoint::unstored(&mut conn, 9).await.unwrap();
    let [row] = &unstored[..] else { panic!("{unstored:?}") };
    let layer = checkpoint::LayerRow {
        id: row.layer.clone(),
        snapshot: "one".to_owned(),
        digest: "d".to_owned(),
        bytes: 7,
    };
    let (moved, target) =
        (checkpoint::LayerRow { snapshot: "two".to_owned(), ..layer.clone() }, id.clone());
    let first = layer.clone();
    home.write(async move |tx| {
        checkpoint::put_layer(tx, &first, at(2)).await?;
        // Stored once more, under another name: that one counts.
        checkpoint::put_layer(tx, &moved, at(3)).await?;
        checkpoint::set_stored(tx, &target).await
    })
    .await;
    assert!(checkpoint::unstored(&mut conn, 9).await.unwrap().is_empty());
    let found = checkpoint::stored_layer(&mut conn, &layer.id).await.unwrap().unwrap();
    assert_eq!((found.snapshot.as_str(), found.bytes), ("two", 7));
    let [stack] = &checkpoint::stacks(&mut conn).await.unwrap()[..] else { panic!() };
    assert_eq!(
        (&stack.session, stack.stored, &stack.layers),
        (&session, true, &vec![layer.id.clone()])
    );

    // On other layers it has to be stored again.
    let (flat, target) = (LayerId::generate(), id.clone());
    let stack = vec![flat.clone()];
    home.write(async move |tx| checkpoint::set_stack(tx, &target, &stack).await).await;
    let row = checkpoint::get(&mut conn, &id).await.unwrap();
    assert_eq!((row.stack, row.checkpoint.stored), (vec![flat], false));
    let gone = layer.id.clone();
    home.write(async move |tx| {
        checkpoint::remove_layer(tx, &gone).await?;
        checkpoint::remove_all(tx, &session).await
    })
    .await;
    assert!(checkpoint::stored_layers(&mut conn).await.unwrap().is_empty());
    assert!(checkpoint::stacks(&mut conn).await.unwrap().is_empty());
    let error = checkpoint::get(&mut conn, &id).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_state_is_a_sandboxs_own_until_anything_can_have_run_there() {
    let home = Home::new().await;
    let session = home.session().await;
    let id = home.sandbox(&session).await;
    let go = async |phase: Phase| {
        let id = id.clone();
        home.write(async move |tx| {
            let generation = sandbox::get(tx, &id).await?.generation;
            sandbox::set_phase(tx, &id, generation, phase, None, at(3)).await
        })
        .await
    };
    for phase in [Phase::Starting, Phase::Running, Phase::Hibernating] {
        go(phase).await;
    }
    let resting = go(Phase::Hibernated).await;
    let new = new(&session, CheckpointKind::Archive);
    let mut made = sealed(&new, &id, 1);
    made.position.generation = resting.generation;
    let row = home.write(async move |tx| checkpoint::insert_sealed(tx, &new, &made).await).await;
    assert!(row.is_of(&resting));
    assert!(row.is_of(&go(Phase::Archiving).await), "leaving changes no file");
    assert!(row.is_of(&go(Phase::Archived).await));
    let other = home.sandbox(&session).await;
    let mut conn = home.store.read().await.unwrap();
    assert!(!row.is_of(&sandbox::get(&mut conn, &other).await.unwrap()));
    let woken = sandbox::SandboxRow { phase: Phase::Running, ..resting.clone() };
    assert!(!row.is_of(&woken));
    let slept_again =
        sandbox::SandboxRow { generation: Generation(resting.generation.0 + 3), ..resting };
    assert!(!row.is_of(&slept_again));
}

#[tokio::test]
async fn what_sandboxes_start_on_is_in_use_until_they_are_gone() {
    let home = Home::new().await;
    let session = home.session().await;
    let layers: [_; 3] = std::array::from_fn(|_| LayerId::generate());
    let mut ids = Vec::new();
    for stack in [&layers[..2], &layers[1..]] {
        let new = sandbox::NewSandbox {
            id: SandboxId::generate(),
            session: session.clone(),
            provider: "fake".to_owned(),
            token: "t".to_owned(),
            stack: stack.to_vec(),
            at: at(0),
        };
        ids.push(new.id.clone());
        let row = home.write(async move |tx| sandbox::insert(tx, &new).await).await;
        assert_eq!(row.stack, stack);
    }
    let mut conn = home.store.read().await.unwrap();
    let mut all = layers.to_vec();
    all.sort();
    assert_eq!(sandbox::layers_in_use(&mut conn).await.unwrap(), all);
    let first = ids[0].clone();
    home.write(async move |tx| {
        for phase in [Phase::Destroying, Phase::Destroyed] {
            let generation = sandbox::get(tx, &first).await?.generation;
            sandbox::set_phase(tx, &first, generation, phase, None, at(1)).await?;
        }
        Ok(())
    })
    .await;
    let mut left = layers[1..].to_vec();
    left.sort();
    assert_eq!(sandbox::layers_in_use(&mut conn).await.unwrap(), left);
}

/// Turns that began and ended, each with its entry in the log and one after it; where the log
/// stood after each.
async fn turns(home: &Home, session: &SessionId, count: usize) -> Vec<(TurnId, Seq)> {
    let mut turns = Vec::new();
    for _ in 0..count {
        let id = home.turn(session).await;
        let (session, turn) = (session.clone(), id.clone());
        let (_, last) = home
            .write(async move |tx| {
                turn::begin(tx, &turn, at(1)).await?;
                let entries = [(Some(turn), EventBody::TurnStarted {}), (None, notice("done"))];
                event::append(tx, &session, at(1), &entries).await
            })
            .await;
        turns.push((id, last));
    }
    turns
}

/// The numbers of the turns that are there, oldest first.
async fn there(home: &Home, session: &SessionId) -> Vec<i64> {
    let mut conn = home.store.read().await.unwrap();
    let mut numbers = Vec::new();
    for id in turn::last_begun(&mut conn, session, 99).await.unwrap() {
        numbers.insert(0, turn::get(&mut conn, &id).await.unwrap().turn.number);
    }
    numbers
}

#[tokio::test]
async fn a_rewind_takes_turns_back_and_its_own_rewind_brings_them_again() {
    let home = Home::new().await;
    let (session, other) = (home.session().await, home.session().await);
    turns(&home, &other, 2).await;
    let made = turns(&home, &session, 3).await;
    let queued = home.turn(&session).await;
    let back = async |seq: Seq, undone: &[i64]| {
        let (session, undone) = (session.clone(), undone.to_vec());
        home.write(async move |tx| turn::taken_back(tx, &session, seq, &undone).await).await;
    };
    assert_eq!(there(&home, &session).await, [1, 2, 3], "what waits has not begun");
    // To after the first.
    back(made[0].1, &[]).await;
    assert_eq!(there(&home, &session).await, [1]);
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(turn::undone(&mut conn, &session).await.unwrap(), [2, 3]);
    assert_eq!(turn::next_queued(&mut conn, &session).await.unwrap().unwrap().turn.id, queued);
    // The queued one runs in what was made of it.
    let (target, of) = (queued.clone(), session.clone());
    let (_, after) = home
        .write(async move |tx| {
            turn::begin(tx, &target, at(2)).await?;
            event::append(tx, &of, at(2), &[(Some(target), EventBody::TurnStarted {})]).await
        })
        .await;
    assert_eq!(there(&home, &session).await, [1, 4]);
    // Undo: the state that had all three, and knew nothing of the fourth.
    back(made[2].1, &[]).await;
    assert_eq!(there(&home, &session).await, [1, 2, 3]);
    // And undo that: the state in which two had been taken back.
    back(after, &[2, 3]).await;
    assert_eq!(there(&home, &session).await, [1, 4]);
    // To the beginning.
    back(0, &[]).await;
    assert_eq!(there(&home, &session).await, [0; 0]);
    assert_eq!(there(&home, &other).await, [1, 2], "another's are its own");
    let mut conn = home.store.read().await.unwrap();
    let two = turn::last_begun(&mut conn, &other, 1).await.unwrap();
    assert_eq!(turn::get(&mut conn, &two[0]).await.unwrap().turn.number, 2);
}
