//! Commands.

use rclaude_store::{
    StoreError,
    exec::{self, NewExec},
};
use rclaude_types::{ExecId, ExecState, SandboxId, SessionId};

use crate::support::{Home, at};

fn command(session: &SessionId, sandbox: &SandboxId) -> NewExec {
    NewExec {
        id: ExecId::generate(),
        session: session.clone(),
        sandbox: sandbox.clone(),
        command: vec!["echo".to_owned(), "a b\0".to_owned()],
        at: at(0),
    }
}

#[tokio::test]
async fn a_repeated_start_adopts_the_first() {
    let home = Home::new().await;
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    let new = command(&session, &sandbox);
    let again = NewExec { command: vec!["other".to_owned()], at: at(9), ..new.clone() };
    let strange = NewExec { session: home.session().await, ..new.clone() };
    let wanted = new.command.clone();
    let (first, added) = home.write(async move |tx| exec::insert_or_adopt(tx, &new).await).await;
    assert!(added);
    assert_eq!((&first.exec.command, first.exec.state), (&wanted, ExecState::Running));
    let second = home.write(async move |tx| exec::insert_or_adopt(tx, &again).await).await;
    assert_eq!(second, (first, false));
    let error = home.refused(async move |tx| exec::insert_or_adopt(tx, &strange).await).await;
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
}

#[tokio::test]
async fn the_first_end_counts_and_the_rest_are_lost_with_their_sandbox() {
    let home = Home::new().await;
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    let elsewhere = home.sandbox(&session).await;
    let commands =
        [command(&session, &sandbox), command(&session, &sandbox), command(&session, &elsewhere)];
    let ids = commands.clone().map(|new| new.id);
    home.write(async move |tx| {
        for new in &commands {
            exec::insert_or_adopt(tx, new).await?;
        }
        Ok(())
    })
    .await;

    let done = ids[0].clone();
    let news = home
        .write(async move |tx| {
            Ok((
                exec::finish(tx, &done, Some(3), None, at(1)).await?,
                exec::finish(tx, &done, None, Some(9), at(2)).await?,
            ))
        })
        .await;
    assert_eq!(news, (true, false));
    let ended = sandbox.clone();
    let lost = home.write(async move |tx| exec::mark_lost(tx, &ended, at(3)).await).await;
    assert!(lost.iter().map(|row| (&row.exec.id, row.exec.state)).eq([(&ids[1], ExecState::Lost)]));

    let mut conn = home.store.read().await.unwrap();
    let row = exec::get(&mut conn, &ids[0]).await.unwrap();
    assert_eq!((row.exec.state, row.exec.exit_code), (ExecState::Exited, Some(3)));
    assert_eq!((row.exec.signal, row.ended_at), (None, Some(at(1))));
    let running = exec::list_running(&mut conn, &elsewhere).await.unwrap();
    assert!(running.iter().map(|row| &row.exec.id).eq([&ids[2]]));
    let newest = exec::list(&mut conn, &session, 2).await.unwrap();
    assert!(newest.iter().map(|row| &row.exec.id).eq([&ids[2], &ids[1]]));
}
