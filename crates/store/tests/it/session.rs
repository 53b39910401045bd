//! Sessions.

use std::collections::BTreeMap;

use rclaude_store::{
    StoreError, approval, sandbox,
    session::{self, Checkout, NewSession, SessionCounts, SessionPage, SessionSettings},
    turn,
};
use rclaude_types::{
    CreateSession, Desired, Generation, MicroUsd, PermissionMode, RepositorySource, SessionId,
};
use serde_json::json;

use crate::support::{Home, at, new_session};

#[tokio::test]
async fn a_session_reads_back_whole() {
    let home = Home::new().await;
    let request = CreateSession {
        repository: Some(RepositorySource {
            url: "https://example.org/a.git".to_owned(),
            branch: Some("main".to_owned()),
            include_uncommitted: true,
        }),
        model: Some("opus".to_owned()),
        permission_mode: PermissionMode::AcceptEdits,
        env: BTreeMap::from([("A".to_owned(), "b=\0c".to_owned())]),
        template: Some("host".to_owned()),
        allow_root: true,
        labels: BTreeMap::from([("team".to_owned(), "core".to_owned())]),
        ..CreateSession::default()
    };
    let settings = SessionSettings::from(request);
    let new = NewSession { settings: settings.clone(), ..new_session() };
    let (id, name) = (new.id.clone(), new.name.clone());
    let made = home.write(async move |tx| session::insert(tx, &new).await).await;

    assert_eq!(made.settings, settings);
    assert_eq!((&made.id, &made.name), (&id, &name));
    assert_eq!((made.desired, made.generation), (Desired::Running, Generation(1)));
    assert_eq!((made.last_seq, made.cost), (0, MicroUsd(0)));
    assert_eq!((made.created_at, made.updated_at, made.deleted_at), (at(0), at(0), None));
    let read = session::get(&mut home.store.read().await.unwrap(), &id).await.unwrap();
    assert_eq!(read, made);
}

#[tokio::test]
async fn a_session_is_found_by_name_id_and_a_prefix_that_fits_no_other() {
    let home = Home::new().await;
    let id: SessionId = "ses_00010000000000000000000000000000".parse().unwrap();
    let near: SessionId = "ses_00012222222222222222222222222222".parse().unwrap();
    for (id, name) in [(&id, "one"), (&near, "ses_0001f")] {
        let new = NewSession { id: id.clone(), name: name.to_owned(), ..new_session() };
        home.write(async move |tx| session::insert(tx, &new).await).await;
    }
    let mut conn = home.store.read().await.unwrap();
    for (reference, wanted) in [
        ("one", &id),
        ("ses_00010", &id),
        (id.as_str(), &id),
        ("ses_00012", &near),
        ("ses_0001f", &near),
    ] {
        let found = session::find_by_reference(&mut conn, reference).await.unwrap();
        assert_eq!(found.id, *wanted, "{reference}");
    }
    let error = session::find_by_reference(&mut conn, "ses_0001").await.unwrap_err();
    let StoreError::Ambiguous { candidates, .. } = error else { panic!("{error:?}") };
    assert_eq!(candidates, [id.as_str(), near.as_str()]);
    for reference in ["", "two", "ses_", "ses_000", "ses_0003", "ses_%", "ses_00_1", "on"] {
        let error = session::find_by_reference(&mut conn, reference).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{reference}: {error:?}");
    }
}

#[tokio::test]
async fn a_name_is_taken_until_the_deletion_is_asked_for() {
    let home = Home::new().await;
    let named = |name: &str| NewSession { name: name.to_owned(), ..new_session() };
    let (first, second, third) = (named("fix"), named("fix"), named("fix"));
    let id = first.id.clone();
    home.write(async move |tx| session::insert(tx, &first).await).await;
    let error = home.refused(async move |tx| session::insert(tx, &second).await).await;
    assert!(matches!(error, StoreError::NameTaken { ref name } if name == "fix"), "{error:?}");

    let gone = id.clone();
    home.write(async move |tx| {
        session::set_desired(tx, &gone, Desired::Deleted, None, at(1)).await
    })
    .await;
    let made = home.write(async move |tx| session::insert(tx, &third).await).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(session::find_by_reference(&mut conn, "fix").await.unwrap().id, made.id);
    let by_id = session::find_by_reference(&mut conn, id.as_str()).await;
    assert!(matches!(by_id, Err(StoreError::NotFound { .. })));
    assert_eq!(session::get(&mut conn, &id).await.unwrap().desired, Desired::Deleted);
}

#[tokio::test]
async fn pages_go_from_new_to_old_and_hold_to_labels() {
    let home = Home::new().await;
    let mut ids = Vec::new();
    for number in 0..25 {
        let mut new = new_session();
        let labels = &mut new.settings.labels;
        labels.insert("parity".to_owned(), if number % 2 == 0 { "even" } else { "odd" }.to_owned());
        labels.insert("third".to_owned(), (number % 3 == 0).to_string());
        ids.push(new.id.clone());
        home.write(async move |tx| session::insert(tx, &new).await).await;
    }
    let gone = ids[24].clone();
    home.write(async move |tx| {
        session::set_desired(tx, &gone, Desired::Deleted, None, at(1)).await
    })
    .await;

    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let both = vec![label("parity", "even"), label("third", "true")];
    for (labels, wanted) in [
        (vec![], (0..24).rev().collect::<Vec<_>>()),
        (vec![label("parity", "odd")], (0..24).rev().filter(|n| n % 2 == 1).collect()),
        (both, vec![18, 12, 6, 0]),
        (vec![label("parity", "prime")], vec![]),
    ] {
        let mut conn = home.store.read().await.unwrap();
        let mut found = Vec::new();
        loop {
            let before = found.last().cloned();
            let page = SessionPage { labels: labels.clone(), before, limit: 3 };
            let rows = session::list(&mut conn, &page).await.unwrap();
            assert!(rows.len() <= 3);
            if rows.is_empty() {
                break;
            }
            found.extend(rows.into_iter().map(|row| row.id));
        }
        let wanted: Vec<_> = wanted.into_iter().map(|number: usize| ids[number].clone()).collect();
        assert_eq!(found, wanted, "{labels:?}");
    }
}

#[tokio::test]
async fn an_update_names_the_generation_it_read() {
    let home = Home::new().await;
    let id = home.session().await;
    let other = home.session().await;
    let mut conn = home.store.read().await.unwrap();
    let read = session::get(&mut conn, &id).await.unwrap();
    let other_name = session::get(&mut conn, &other).await.unwrap().name;

    let mut settings = read.settings.clone();
    settings.labels.insert("a".to_owned(), "b".to_owned());
    let (target, wish) = (id.clone(), settings.clone());
    let updated = home
        .write(async move |tx| {
            session::update_settings(tx, &target, read.generation, "renamed", &wish, at(5)).await
        })
        .await;
    assert_eq!((updated.name.as_str(), &updated.settings), ("renamed", &settings));
    assert_eq!((updated.generation, updated.updated_at), (Generation(2), at(5)));

    for (generation, name, stale) in
        [(Generation(1), "late".to_owned(), true), (Generation(2), other_name, false)]
    {
        let (target, wish) = (id.clone(), SessionSettings::default());
        let error = home
            .refused(async move |tx| {
                session::update_settings(tx, &target, generation, &name, &wish, at(6)).await
            })
            .await;
        if stale {
            assert!(matches!(error, StoreError::Stale { .. }), "{error:?}");
        } else {
            assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");
        }
    }
    let page = SessionPage { labels: vec![("a".into(), "b".into())], before: None, limit: 9 };
    assert_eq!(session::list(&mut conn, &page).await.unwrap(), [updated]);
}

#[tokio::test]
async fn a_deletion_cannot_be_taken_back() {
    let home = Home::new().await;
    let id = home.session().await;
    for (desired, generation) in
        [(Desired::Paused, 2), (Desired::Paused, 2), (Desired::Deleted, 3), (Desired::Deleted, 3)]
    {
        let id = id.clone();
        let row = home
            .write(async move |tx| session::set_desired(tx, &id, desired, None, at(1)).await)
            .await;
        assert_eq!((row.desired, row.generation), (desired, Generation(generation)));
    }
    let error = home
        .refused(async move |tx| session::set_desired(tx, &id, Desired::Running, None, at(1)).await)
        .await;
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
}

#[tokio::test]
async fn what_was_found_out_is_kept() {
    let home = Home::new().await;
    let id = home.session().await;
    let checkout = Checkout {
        base_commit: Some("c0ffee".to_owned()),
        branch: Some("rclaude/fix".to_owned()),
        info: json!({ "layer": "/somewhere" }),
    };
    let (target, made) = (id.clone(), checkout.clone());
    home.write(async move |tx| {
        session::set_checkout(tx, &target, &made, at(1)).await?;
        session::set_agent_session(tx, &target, Some("conversation"), at(2)).await?;
        session::set_failure(tx, &target, Some("out of luck"), at(3)).await
    })
    .await;
    let row = session::get(&mut home.store.read().await.unwrap(), &id).await.unwrap();
    assert_eq!((row.base_commit, row.branch), (checkout.base_commit, checkout.branch));
    assert_eq!(row.checkout, Some(checkout.info));
    assert_eq!(row.agent_session_id.as_deref(), Some("conversation"));
    assert_eq!((row.failure.as_deref(), row.updated_at), (Some("out of luck"), at(3)));

    let row = home
        .write(async move |tx| {
            session::set_failure(tx, &id, None, at(4)).await?;
            session::get(tx, &id).await
        })
        .await;
    assert_eq!(row.failure, None);
}

#[tokio::test]
async fn a_session_is_live_until_the_last_of_it_is_gone() {
    let home = Home::new().await;
    let (kept, paused, leaving, gone) =
        (home.session().await, home.session().await, home.session().await, home.session().await);
    let turn = home.turn(&kept).await;
    let ids = [paused.clone(), leaving.clone(), gone.clone()];
    home.write(async move |tx| {
        let [paused, leaving, gone] = &ids;
        turn::begin(tx, &turn, at(1)).await?;
        session::set_desired(tx, paused, Desired::Paused, None, at(1)).await?;
        session::set_desired(tx, leaving, Desired::Deleted, None, at(1)).await?;
        session::set_desired(tx, gone, Desired::Deleted, None, at(1)).await?;
        session::mark_deleted(tx, gone, at(2)).await?;
        session::mark_deleted(tx, gone, at(3)).await
    })
    .await;
    let mut conn = home.store.read().await.unwrap();
    let live = session::list_live(&mut conn).await.unwrap();
    assert!(live.into_iter().map(|row| row.id).eq([kept, paused, leaving]));
    let counts = session::counts(&mut conn).await.unwrap();
    assert_eq!(counts, SessionCounts { running: 1, paused: 1, deleting: 1, working: 1 });
    assert_eq!(session::get(&mut conn, &gone).await.unwrap().deleted_at, Some(at(2)));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let home = Home::new().await;
    let nobody = SessionId::generate();
    let mut conn = home.store.read().await.unwrap();
    let errors = [
        session::get(&mut conn, &nobody).await.unwrap_err(),
        sandbox::current(&mut conn, &nobody).await.unwrap_err(),
        approval::get(&mut conn, &rclaude_types::ApprovalId::generate()).await.unwrap_err(),
        turn::get(&mut conn, &rclaude_types::TurnId::generate()).await.unwrap_err(),
        home.refused(async move |tx| session::set_failure(tx, &nobody, None, at(1)).await).await,
    ];
    for error in errors {
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    }
}
